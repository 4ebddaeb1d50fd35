"""The bus adapter against the real nats-server."""
