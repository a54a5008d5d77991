"""What reward models and policies share of Hugging Face: recipes, tokenizers, loss masks, adapters, sampling."""
