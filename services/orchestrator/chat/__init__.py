"""Ada's answers over HTTP, as OpenAI's API has them."""
