-- Returns whom a key means, how much is held of it, and its aliases.
-- KEYS: visitor, events, ids, shown.
local visitor, events, _, shown = unpack(KEYS)
return {
  redis.call('HGET', visitor, 'to') or '',
  redis.call('ZCARD', events) + redis.call('ZCARD', shown),
  (aliases_of(visitor)),
}
