"""HTTP: one soup behind OpenAI's conventions, a preference with each request, and the mixing desk."""
