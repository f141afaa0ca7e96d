-- An alias of a visitor who was forgotten, or does not know it any more, is nobody's from now on.
-- KEYS: visitor. ARGV: whom it meant.
local found = redis.call('HMGET', KEYS[1], 'to', 'joining')
if found[1] == ARGV[1] and not found[2] then redis.call('DEL', KEYS[1]) end
return {'ok'}
