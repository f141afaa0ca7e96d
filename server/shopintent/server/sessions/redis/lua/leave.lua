-- The first step of a join: from now on a key means another visitor. Its events stay until the
-- other has them, and whoever meets it meanwhile brings the join to its end.
-- KEYS: partition, visitor, events, ids, shown, seen.
-- ARGV: the limits, whom it means, and the latest time of the events that come with the join, or
-- nothing.
-- Returns joining and the epoch, the position, a name of this join, whom it meant until now, the
-- last time of which events are refused, its events, the ids and those of what was shown with when
-- they were added, and its own aliases; or elsewhere and whom it is joining already; or refused.
local partition, visitor, events, ids, shown, seen = unpack(KEYS)
local limits, target, latest = read_limits(), ARGV[AFTER_LIMITS], ARGV[AFTER_LIMITS + 1]
local now = limits.now

local me = look_up(visitor, now, limits.idle_s, '')
if me and me.to and me.to ~= target and me.joining ~= '' then return {'elsewhere', me.to} end
local refused = refused_until(partition, limits.prefix, limits.name, now)
if latest ~= '' and tonumber(latest) <= refused then return {'refused'} end

local epoch = epoch_of(partition, limits.candidate)
local was, join = me and me.to or '', me and me.joining or ''
if join == '' then
  if not me then redis.call('DEL', visitor, events, ids, shown) end
  join = text(take_numbers(partition, 1))
  redis.call('HSETNX', visitor, 'born', join)
  redis.call('HSETNX', visitor, 'positions', '')
  redis.call('HSET', visitor, 'to', target, 'joining', join)
  -- An alias is bounded by whom it means.
  redis.call('ZREM', seen, limits.name)
end
seen_again(now, limits.ttl_s, visitor, events, ids, shown)
return {
  'joining', epoch, me and me.newest or '0', join, was, text(math.floor(refused)),
  redis.call('ZRANGE', events, 0, -1), redis.call('ZRANGE', ids, 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', shown, 0, -1, 'WITHSCORES'), (aliases_of(visitor)),
}
