"""Sessions in Redis, for servers on any number of machines."""

from shopintent.server.sessions.redis.store import RedisSessions

__all__ = ["RedisSessions"]
