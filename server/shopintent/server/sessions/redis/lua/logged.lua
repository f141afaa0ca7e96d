-- Drops records that are in the log.
-- KEYS: partition, log. ARGV: the epoch they are of, their numbers.
local partition, log = unpack(KEYS)
if redis.call('HGET', partition, 'epoch') ~= ARGV[1] then return {'ok'} end
local entries = {}
for at = 2, #ARGV do entries[#entries + 1] = ARGV[at] .. '-0' end
redis.call('XACK', log, 'log', unpack(entries))
local dropped = redis.call('XDEL', log, unpack(entries))
if dropped > 0 then redis.call('HINCRBY', partition, 'unlogged', -dropped) end
return {'ok'}
