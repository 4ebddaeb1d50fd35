"""The only writers: authorize, append, publish the change. Never speaks HTTP or NATS itself."""
