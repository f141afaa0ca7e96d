-- A visitor whose alias means another from now on forgets it.
-- KEYS: visitor. ARGV: the alias.
redis.call('HDEL', KEYS[1], 'a:' .. ARGV[1], 'r:' .. ARGV[1])
return {'ok'}
