"""Postal addresses: streets of many languages, and what stands behind a word for address."""

from __future__ import annotations

import re
from collections.abc import Iterator

from upshot.privacy.labels import word_list
from upshot.privacy.scan import BEGIN, CAPITAL, LETTER, Region, TypedSpan

HAN = r"\x{4E00}-\x{9FFF}"
HANGUL = r"\x{AC00}-\x{D7AF}"
_WORD = rf"[{CAPITAL}][{LETTER}'’\-.]*"
_SMALL = (
    r"(?:de|del|della|delle|dei|degli|di|da|do|dos|das|du|des|la|le|les|los|las|el|al|l['’]"
    r"|d['’]|dell['’]|von|van|der|den|zum|zur|am|st\.?|the|of|y|e|et|ter|ten|'t|sur|sous)"
)
_NAME = rf"(?:(?:{_SMALL} ?){{0,3}}(?:{_WORD}|[0-9]{{1,2}}(?:st|nd|rd|th|\.| de)|[IVX]+) ?){{1,4}}"
_NUMBER = r"[0-9]{1,5}(?: ?[A-Za-z]\b)?(?:[\-/][0-9]{1,4}[A-Za-z]?)?(?: ?(?:bis|ter)\b)?"
_STREET = (
    "Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl"
    "|Square|Sq|Terrace|Terr|Way|Circle|Cir|Parkway|Pkwy|Highway|Hwy"
    "|Crescent|Cres|Close|Row|Trail|Alley|Mews|Broadway|Walk|Gardens|Grove|Hill|Loop|Pike"
    "|Plaza|Quay|Rise|Turnpike|View|Wharf|Yard|Green|Park|Esplanade|Parade"
    "|Nagar|Marg|Chowk|Colony|Path|Bypass|Expressway|Route|Run|Ridge|Heights|Point|Crossing"
    "|Glen|Vale|Bend|Cove"
)
_UNIT = (
    r"(?:,? ?(?:(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|Rm|App|Whg|Etage|étage"
    r"|Piso|Depto|Dpto|Int|Interno|Scala|Apto|Bl|Bloco|lok|m|byt|"
    r"кв|daire|kat|No|OG|Tür)\.?:? ?|# ?)[0-9A-Za-z\-]{1,6}\b)?"
)
_POSTCODE = (
    r"(?:[A-Z]{1,2}-?)?(?:[0-9]{5}(?:-[0-9]{4})?|[0-9]{4} ?[A-Z]{2}|[0-9]{4}|[0-9]{3} ?[0-9]{2}"
    r"|[0-9]{2}-[0-9]{3}|[0-9]{5}-[0-9]{3}|[0-9]{6}|[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2}"
    r"|[A-Z][0-9][A-Z] ?[0-9][A-Z][0-9])"
)
_TAIL = (
    rf"(?:,? (?:{_WORD} ?){{1,3}},? (?:[A-Z]{{2}} )?{_POSTCODE}\b"
    rf"|,? ?(?:\n[ \t]*)?{_POSTCODE} (?:{_WORD}(?:[ \-]{_WORD}){{0,2}})|, {_POSTCODE}\b)?"
)
_GERMAN = (
    rf"[{CAPITAL}][{LETTER}\-]*(?:straße|strasse|str\.|weg|allee|platz|gasse|damm|ufer|ring"
    r"|chaussee|steig|graben|markt|hof|stieg|straat|laan|gracht|plein|kade|weg|dijk|singel"
    r"|steeg"
    r"|gatan|vägen|gränd|vej|gade|allé|veien|gata|veg|katu|tie|kuja|polku|utca|körút)"
)
_GERMAN_SPACED = (
    rf"[{CAPITAL}][{LETTER}\-]+(?:er|sche|er) (?:Straße|Strasse|Str\.|Weg|Allee|Platz|Gasse"
    r"|Damm|Ufer|Ring|Chaussee)|(?:Am|An der|Auf der|Auf dem|Im|In der|Zum|Zur|Unter den|Alte"
    rf"|Alter|Neue|Obere|Untere) [{CAPITAL}][{LETTER}\-]+"
)
_FRENCH = (
    r"(?:[Rr]ue|[Aa]venue|[Aa]v\.|[Bb]oulevard|[Bb]d|[Pp]lace|[Cc]hemin|[Ii]mpasse|[Qq]uai"
    r"|[Rr]oute|[Aa]llée|[Cc]ours|[Ss]quare|[Pp]assage|[Ff]aubourg)"
)
_ROMANCE = (
    r"(?:Calle|C/|Avenida|Avda\.?|Av\.?|Plaza|Pza\.?|Paseo|P[oº]\.?|Carrer|Ronda|Camino"
    r"|Carretera|Ctra\.?|Carrera|Cra\.?|Calzada|Via|Viale|V\.le|Piazza|P\.za|Piazzale|Corso"
    r"|Vicolo|Largo|Lungotevere"
    r"|Rua|R\.|Travessa|Alameda|Praça|Estrada|Rodovia|Praceta|Strada|Str\.|Bulevardul|B-dul"
    r"|Calea|Aleea)"
)
_SLAVIC = (
    r"(?:ul\.|ulica|ulice|al\.|aleja|pl\.|plac|os\.|nám\.|náměstí|tř\.|ulice|ул\.|улица|пр\."
    r"|пр-т|проспект|пер\.|переулок|бульвар|б-р|наб\.|набережная|шоссе|пл\.|площадь|вул\."
    r"|вулиця|бул\.)"
)
STREET = "|".join(
    (
        (
            rf"{BEGIN}{_NUMBER},? (?:(?:[NSEW]|NE|NW|SE|SW|North|South|East"
            rf"|West)\.? )?(?:(?:{_WORD}|[0-9]{{1,3}}(?:st|nd|rd"
            rf"|th)) ){{1,4}}(?:{_STREET})\b\.?{_UNIT}{_TAIL}"
        ),
        (
            rf"\b{_NUMBER},? (?:(?:[NSEW]|NE|NW|SE|SW)\.? )[0-9]{{1,3}}(?:st|nd|rd"
            rf"|th) (?:{_STREET})\b\.?{_UNIT}{_TAIL}"
        ),
        (
            rf"\b(?:{_GERMAN}|{_GERMAN_SPACED}) [0-9]{{1,4}}(?: ?[a-zA-Z]\b)?(?:[\-/]"
            rf"[0-9]{{1,4}}[a-z]?)?{_UNIT}{_TAIL}"
        ),
        rf"\b[0-9]{{1,4}}(?: ?(?:bis|ter|[A-D])\b)?,? {_FRENCH} {_NAME}{_TAIL}",
        (
            r"\b(?:Avenue|Rue|Chaussée|Boulevard|Chemin|Place|Quai|Impasse) "
            rf"{_NAME},? {_NUMBER}{_TAIL}"
        ),
        (
            r"\b(?:Calle|Cl\.?|Carrera|Cra\.?|Kr\.?|Diagonal|Transversal|Avenida"
            r"|Av\.?) [0-9]{1,3} ?[A-Z]?(?: ?Bis)? ?(?:#|No\.?"
            r"|n°) ?[0-9]{1,3} ?[A-Z]? ?[\-–] ?[0-9]{1,3}"
        ),
        (
            rf"\b(?:{_ROMANCE} |C/ ?){_NAME},? ?(?:n[oº°]?\.? ?|# ?"
            rf"|nr\.? ?)?[0-9]{{1,5}}(?:[ \-/][0-9A-Za-z]{{1,4}}\b)?(?:, ?[0-9]{{1,2}}[ºª°]? ?"
            rf"(?:[A-Z]|izq|dcha|esq)\b)?{_UNIT}{_TAIL}"
        ),
        (
            rf"(?:{_SLAVIC} |ul\.|ул\.)(?:[{CAPITAL}][{LETTER}\-.]* ?"
            rf"|[0-9]{{1,2}} ){{1,4}},? ?(?:д\.? ?|дом ?|č\.p\. ?|nr ?"
            rf"|№ ?)?[0-9]{{1,4}}[A-Za-zА-Яа-я]?(?:/[0-9]{{1,4}})?(?:,? ?(?:кв|корп|m|lok"
            rf"|stro)\.? ?[0-9]{{1,4}})?{_TAIL}"
        ),
        (
            rf"\b(?:[{CAPITAL}][{LETTER}.]+ ){{1,3}}(?:Cad\.|Caddesi|Sok\.|Sokak|Sokağı|Bulvarı"
            rf"|Blv\.|Mah\.|Mahallesi)(?: (?:[{CAPITAL}][{LETTER}.]+ ){{0,3}}(?:Sok\.|Sokak"
            rf"|Cad\.|Caddesi|Sokağı))?,? (?:[Nn]o ?[:.]? ?)?[0-9]{{1,4}}(?:/[0-9]{{1,3}})?"
        ),
        (
            rf"\b[{CAPITAL}][{LETTER}]+ (?:utca|u\.|út|tér|körút|köz"
            rf"|sétány) [0-9]{{1,4}}\.?(?:,? ?[0-9]{{4}} [{CAPITAL}][{LETTER}]+)?"
        ),
        (
            rf"[{HAN}]{{2,8}}?[省市都道府县縣区區](?:[{HAN}]|[0-9０-９]){{1,24}}?(?:[号號室楼樓]"
            rf"|[0-9０-９]{{1,4}}[\-－丁][0-9０-９丁目番地号\-－]{{1,12}})[0-9]{{0,5}}室?"
        ),
        (
            rf"[{HANGUL}]{{2,7}}(?:시|도|특별시|광역시)? ?[{HANGUL}]{{1,6}}[시군구]"
            rf"(?: [{HANGUL}]{{1,8}}"
            rf"[읍면동구])? [{HANGUL}]{{1,10}}(?:로|길"
            rf"|대로)[0-9가-힣]{{0,6}} ?[0-9]{{1,4}}(?:-[0-9]{{1,4}})?(?:,? ?[0-9]{{1,4}}동 ?"
            rf"[0-9]{{1,4}}호)?"
        ),
        (
            r"(?i:\b(?:P\.? ?O\.? ?|Post(?:al)? ?Office ?)Box [0-9]{1,6}\b"
            r"|\bPostfach [0-9][0-9 ]{1,8}[0-9]\b|\bB\.?P\.? [0-9]{2,6}\b"
            r"|\bApartado(?: de correos)? [0-9]{2,6}\b|\bCasella postale [0-9]{1,6}\b"
            r"|\bPostbus [0-9]{1,6}\b|\bPSC [0-9]{2,5},? Box [0-9]{2,5})"
        ),
        (
            rf"\b[{CAPITAL}][{LETTER}.]+(?: [{CAPITAL}][{LETTER}.]+){{0,2}}, (?:A[LKZR]|C[AOT]"
            r"|D[CE]|FL|GA|HI|I[DLNA]|K[SY]|LA|M[EDAINSOT]|N[EVHJMYCD]|O[HKR]|PA|RI|S[CD]"
            rf"|T[NX]|UT|V[TA]|W[AVIY]),? [0-9]{{5}}(?:-[0-9]{{4}})?\b"
        ),
    )
)
"""Streets with their numbers, and what follows of town and postcode, in RE2's syntax."""
_NO_STREET = re.compile(
    r"(?i)^[0-9]+ (?:(?:more|new|other|first|last|next|top|best|easy|simple|different|great"
    r"|good|free|full|step|points?|items?|things?|ways?|days?|hours?|minutes?|years?"
    r"|people|users?|lines?|files?|rows?|the|a|an|your|my|our|their|its|this|that)\b)"
)


def is_street(text: str) -> bool:
    """Whether a candidate reads as a street rather than as `3 More Steps Way`."""
    return _NO_STREET.match(text) is None


def read_street(region: Region) -> Iterator[TypedSpan]:
    """A street with its number; the number must not go on from a time, a version or a path."""
    region = region.trim_escape()
    text = region.text
    if text[0].isdigit() and region.before(1) in (":", ".", "/", "-"):
        return
    if is_street(text):
        yield "ADDRESS", region.start, region.end


# ---- Behind a word for address

_LINK = re.compile(
    r"[\\\"'`*_)\]]{0,5}[ \t]*(?:=>|:=|[:=|：]|\b(?:is|ist|est|es|è|é|at|in|on|to|der|die|dem"
    r"|das|la|au|en|na|no|em|w|przy|v|на|в|по|はは)\b|[,\-–]|是|は|은|는)?"
    r"[ \t]*(?:\r?\n[ \t>*\-]{0,8}|\\n)?[ \t]*[\\\"'`*_(]{0,5}"
)
_NO_ADDRESS_BEFORE = re.compile(
    r"(?i)\b(?:ip|e-?mail|mail|mac|web|url|memory|wallet|bitcoin|btc|eth|ethereum|contract"
    r"|server|host|base|start|end|return|virtual|physical|source|destination|src|dst"
    r"|remote|local|listen|bind|network|internet|http|https|bus|register|offset|loopback"
    r"|public|private|ipv[46]|broadcast|proxy|gateway|site|page|forwarding|from|reply|to|@"
    r"|payment|deposit)"
    r"['’]?s?[ _\-]*$"
)
_ASSIGNED = re.compile(r"[\s\"'`*_)\]]*(?:=>|:=|[:=|：]|\b(?:is|ist|est|es|è|é)\b|是|は)")
_WEAK = word_list("weak_address_labels")
_LINE = re.compile(r"[^\n\x1e\"`{}<>|;=]{6,120}")
_HOUSE_NUMBER = re.compile(
    (
        r"(?<![A-Za-z0-9_.])[0-9]{1,5}(?:[A-Za-z]|[\-/][0-9]{1,4})?\b(?![.,][0-9]|[:%$€£]|\s?(?:am|pm"
        r"|usd|eur|%|€|\$|years?|months?|days?|hours?|minutes?|min|km|kg|gb|mb|times)\b)"
    ),
    re.I,
)
_CAPITAL = re.compile(r"[^\W\d_a-zß-ÿ][^\W\d_]+")
_SENTENCE_END = re.compile(
    (
        r"[.!?](?= [^\W\d_]{3,}[^.]*$)(?<!St\.)(?<!Rd\.)(?<!Ave\.)(?<!Apt\.)(?<!Str\.)"
        r"(?<!str\.)(?<!No\.)(?<!ul\.)(?<!ул\.)(?<!г\.)|[.!?]$| (?:and|but|because|please|so"
        r"|und|et|y|e|i|и) (?=[a-zа-яё])|\\n|, (?:and|but|please|so|can|could|my|i|tel|phone"
        r"|email)\b"
    ),
    re.I,
)


def read_address_after(region: Region, label: str, after: str) -> Iterator[TypedSpan]:
    """What stands behind a word for address, to the sentence's end, if it has a house number."""
    if _NO_ADDRESS_BEFORE.search(region.before(24)):
        return
    if label.lower() in _WEAK and not _ASSIGNED.match(after):
        return
    link = _LINK.match(after)
    match = _LINE.match(after, link.end() if link else 0)
    if match is None:
        return
    text = match.group()
    if stop := _SENTENCE_END.search(text, 6):
        text = text[: stop.start()]
    text = text.rstrip(" ,'\\)*_")
    number = _HOUSE_NUMBER.search(text)
    if number is None or "@" in text or "//" in text or "0x" in text or re.match(r"[0-9.]+$", text):
        return
    if not (_CAPITAL.search(text) or not text.isascii()) or text.count(".") > 4:
        return
    yield region.span_after("ADDRESS", after, match.start(), match.start() + len(text))
