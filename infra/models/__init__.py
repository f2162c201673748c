"""Language models behind one port: Anthropic's Messages, OpenAI's Responses, and a scripted one that needs no network."""
