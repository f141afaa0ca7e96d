-- Reads what changed of a visitor.
-- KEYS: partition, visitor, events.
-- ARGV: now, idle_s, ttl_s, alias, born and position held, and the partition, epoch and number of
-- the position wanted, or nothing; the name of this partition.
-- Returns same, since or all, whether the position is reached (1, 0, or -1 for never), and for the
-- last two born, the position now and the events; or none and whether; or moved, unlinked.
local partition, visitor, events = unpack(KEYS)
local now, idle_s, ttl_s, alias = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local held_born, held = ARGV[5], ARGV[6]
local wanted_partition, wanted_epoch, wanted, here = ARGV[7], ARGV[8], ARGV[9], ARGV[10]

local me = look_up(visitor, now, idle_s, alias)
if me and me.to then return moved(me, now, ttl_s, visitor) end
if alias ~= '' and not (me and me.joined) then return {'unlinked'} end

local function reached()
  if wanted == '' then return 1 end
  if me then
    local joined = redis.call('HGET', visitor, 'j:' .. wanted_partition)
    local epoch, number = string.match(joined or '', '^(%w+) (%d+)$')
    if epoch == wanted_epoch and tonumber(number) >= tonumber(wanted) then return 1 end
  end
  if wanted_partition ~= here then return 0 end
  if wanted_epoch ~= redis.call('HGET', partition, 'epoch') then return -1 end
  if wanted == '0' then return 1 end
  if not me then return -1 end
  local is_held, oldest = holds(me.positions, wanted)
  if is_held or tonumber(wanted) < tonumber(oldest or 0) then return 1 end
  return 0
end

local is_reached = reached()
if not me then return {'none', is_reached} end
if held_born == me.born and held == me.newest then return {'same', is_reached} end
local all = redis.call('ZRANGE', events, 0, -1)
if held_born ~= me.born or not holds(me.positions, held) then
  return {'all', is_reached, me.born, me.newest, all}
end
local added, after = {}, in_order(tonumber(held))
for _, event in ipairs(all) do
  if string.sub(event, 1, 16) > after then added[#added + 1] = event end
end
return {'since', is_reached, me.born, me.newest, added}
