"""Any OpenAI-compatible endpoint that runs already."""
