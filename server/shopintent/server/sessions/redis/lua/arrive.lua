-- The second step of a join: a visitor gets what an alias did. It happens once for each join.
-- KEYS: partition, visitor, events, ids, shown, log, seen.
-- ARGV: the limits, the alias, the name of the join, the partition, epoch and position of the alias,
-- the last time of which its events are refused, the record of the login; the number of events and
-- of ids; then the events and their times, and the ids, and those of what was shown, with when they
-- were added.
-- Returns ok; or moved, full.
local partition, visitor, events, ids, shown, log, seen = unpack(KEYS)
local limits = read_limits()
local alias, join, from_partition, from_epoch, from_position, alias_refused, line, n_events, n_ids =
  unpack(ARGV, AFTER_LIMITS, AFTER_LIMITS + 8)
local now, FIRST = limits.now, AFTER_LIMITS + 9

local me = look_up(visitor, now, limits.idle_s, alias)
if me and me.to then return moved(me, now, limits.ttl_s, visitor) end
if me and me.joined == join then return {'ok'} end
if line ~= '' and not has_room(partition, 1, limits.unlogged) then return {'full'} end

epoch_of(partition, limits.candidate)
if not me then redis.call('DEL', visitor, events, ids, shown) end
local refused = refused_until(partition, limits.prefix, limits.name, now)
local first = take_numbers(partition, n_events + 1)
local first_id = FIRST + 2 * n_events
local first_shown = first_id + 2 * n_ids
for index = 1, n_events do
  local at = FIRST + 2 * (index - 1)
  local event, time = string.sub(ARGV[at], 17), ARGV[at + 1]
  local is_repeat = me and is_known(string.sub(event, 1, 16), now, ids, shown)
  if tonumber(time) > refused and not is_repeat then
    redis.call('ZADD', events, time, in_order(first + index - 1) .. event)
  end
end
for at = first_id, #ARGV, 2 do
  redis.call('ZADD', at < first_shown and ids or shown, 'GT', ARGV[at + 1], ARGV[at])
end
local last = first + n_events
if line ~= '' then record(partition, log, last, line) end
trim(limits, events, ids, shown)
reach(visitor, me, first, last)
redis.call('HSET', visitor, 'a:' .. alias, join, 'r:' .. alias, alias_refused)

local reached_epoch, reached =
  string.match(redis.call('HGET', visitor, 'j:' .. from_partition) or '', '^(%w+) (%d+)$')
if reached_epoch ~= from_epoch or tonumber(reached) < tonumber(from_position) then
  redis.call('HSET', visitor, 'j:' .. from_partition, from_epoch .. ' ' .. from_position)
end
local names, joins = aliases_of(visitor)
while #names > MAX_ALIASES do
  local oldest = 1
  for index = 2, #names do
    if joins[index] < joins[oldest] then oldest = index end
  end
  redis.call('HDEL', visitor, 'a:' .. names[oldest], 'r:' .. names[oldest])
  table.remove(names, oldest)
  table.remove(joins, oldest)
end
seen_again(now, limits.ttl_s, visitor, events, ids, shown)
heard_of(seen, last, limits)
return {'ok'}
