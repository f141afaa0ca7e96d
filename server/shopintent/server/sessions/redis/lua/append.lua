-- Adds events, all or none.
-- KEYS: partition, visitor, events, ids, shown, feed, log, seen.
-- ARGV: the limits, the alias, and of each event: its time, the digest of its id, what is kept of
-- it, what the counters see of it, and its record. All but the time may be empty; nothing is kept
-- of impressions.
-- Returns ok, the epoch, the position now, born, the position before, and 1 or 0 for each event;
-- or moved, unlinked, full.
local partition, visitor, events, ids, shown, feed, log, seen = unpack(KEYS)
local limits, alias = read_limits(), ARGV[AFTER_LIMITS]
local now, FIRST, FIELDS = limits.now, AFTER_LIMITS + 1, 5

local me = look_up(visitor, now, limits.idle_s, alias)
if me and me.to then return moved(me, now, limits.ttl_s, visitor) end

local refused = refused_until(partition, limits.prefix, limits.name, now)
if me and now - me.refused <= DAY_S then refused = math.max(refused, me.refused) end
local flags, fresh, known, records = {}, {}, {}, 0
local has_any = #ARGV < FIRST
for at = FIRST, #ARGV, FIELDS do
  local id, is_new = ARGV[at + 1], tonumber(ARGV[at]) > refused
  has_any = has_any or is_new
  if is_new and id ~= '' then
    is_new = not known[id] and not (me and is_known(id, now, ids, shown))
    known[id] = true
  end
  flags[#flags + 1] = is_new and '1' or '0'
  if is_new then
    fresh[#fresh + 1] = at
    if ARGV[at + 4] ~= '' then records = records + 1 end
  end
end
if has_any and alias ~= '' and not (me and me.joined) then return {'unlinked'} end
if records > 0 and not has_room(partition, records, limits.unlogged) then return {'full'} end

local epoch, before = epoch_of(partition, limits.candidate), me and me.newest or '0'
if #fresh == 0 then
  if me and has_any then
    seen_again(now, limits.ttl_s, visitor, events, ids, shown)
    redis.call('ZADD', seen, 'XX', micros(), limits.name)
  end
  return {'ok', epoch, before, me and me.born or '', before, table.concat(flags)}
end

if not me then redis.call('DEL', visitor, events, ids, shown) end
local first, counted = take_numbers(partition, #fresh), {}
for index, at in ipairs(fresh) do
  local number = first + index - 1
  local time, id, kept, seen_by_counters, line = unpack(ARGV, at, at + FIELDS - 1)
  if id ~= '' then redis.call('ZADD', kept ~= '' and ids or shown, now, id) end
  if kept ~= '' then redis.call('ZADD', events, time, in_order(number) .. kept) end
  if seen_by_counters ~= '' then counted[#counted + 1] = seen_by_counters end
  if line ~= '' then record(partition, log, number, line) end
end
local last = first + #fresh - 1
if #counted > 0 then feed_on(feed, last, counted) end
trim(limits, events, ids, shown)
reach(visitor, me, first, last)
seen_again(now, limits.ttl_s, visitor, events, ids, shown)
heard_of(seen, last, limits)
return {'ok', epoch, text(last), me and me.born or text(first), before, table.concat(flags)}
