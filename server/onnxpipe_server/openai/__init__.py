"""OpenAI's API in pure functions: its requests to prompts and parameters, texts to its responses. No HTTP here."""
