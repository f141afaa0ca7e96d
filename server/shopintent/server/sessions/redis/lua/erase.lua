-- Forgets a key, refuses what it did until now, and lets the counters take its events back.
-- KEYS: partition, visitor, events, ids, shown, feed, log, log being written anew, seen.
-- ARGV: the limits, the pseudonyms.
-- Returns the events and the records forgotten, and the aliases it had.
local partition, visitor, events, ids, shown, feed, log, anew, seen = unpack(KEYS)
local limits = read_limits()

local function take_back(members)
  local counted = {}
  for _, member in ipairs(members) do
    local event = cjson.decode(string.sub(member, 33))
    if event[3] ~= '' then
      counted[#counted + 1] = cjson.encode({event[1], event[2], event[3], -1})
    end
  end
  if #counted > 0 then feed_on(feed, take_numbers(partition, 1), counted) end
end

local function is_of_visitor(line)
  for index = AFTER_LIMITS, #ARGV do
    if string.find(line, ARGV[index], 1, true) then return true end
  end
  return false
end

epoch_of(partition, limits.candidate)
local aliases, n_events = aliases_of(visitor), redis.call('ZCARD', events)
take_back(redis.call('ZRANGE', events, 0, -1))
redis.call('DEL', visitor, events, ids, shown)
redis.call('ZREM', seen, limits.name)
local tombstone = tombstone_of(partition, limits.prefix, limits.name)
redis.call('SET', tombstone, limits.now, 'EX', DAY_S + 60)
return {n_events, write_log_anew(partition, log, anew, is_of_visitor), aliases}
