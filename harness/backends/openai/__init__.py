"""Any server with OpenAI's API: what each takes and returns, a client, and a backend on it."""
