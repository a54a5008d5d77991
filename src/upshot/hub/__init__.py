"""What reward models and policies share of Hugging Face: recipes, models, padding, sampling."""
