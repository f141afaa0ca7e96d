-- The last step of a join: what an alias did is kept with the visitor alone.
-- KEYS: visitor, events, ids, shown. ARGV: the name of the join.
local visitor, events, ids, shown = unpack(KEYS)
if redis.call('HGET', visitor, 'joining') ~= ARGV[1] then return {'ok'} end
redis.call('DEL', events, ids, shown)
redis.call('HSET', visitor, 'positions', '')
for _, field in ipairs(redis.call('HKEYS', visitor)) do
  if string.find(field, '^[ajr]:') or field == 'joining' then redis.call('HDEL', visitor, field) end
end
return {'ok'}
