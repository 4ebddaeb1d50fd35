"""The nats-server child, the auth callout, permissions and deliveries. Never reads the store."""
