-- Forgets a key, refuses what it did until now, and lets the counters take its events back. The
-- records that wait are written anew: a deleted entry of a stream keeps its bytes.
-- KEYS: partition, visitor, events, ids, shown, feed, log, log being written anew, seen.
-- ARGV: the limits, the pseudonyms.
-- Returns the events and the records forgotten, and the aliases it had.
local partition, visitor, events, ids, shown, feed, log, anew, seen = unpack(KEYS)
local limits, AT_ONCE = read_limits(), 500

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

-- Lets the group know the copies as it knew the entries: which were handed out, and to whom.
local function copy_group()
  local groups = redis.call('XINFO', 'GROUPS', log)
  if #groups == 0 then return end
  local group = {}
  for at = 1, #groups[1], 2 do group[groups[1][at]] = groups[1][at + 1] end
  redis.call('XGROUP', 'CREATE', anew, 'log', group['last-delivered-id'])
  local from = '-'
  repeat
    local pending = redis.call('XPENDING', log, 'log', from, '+', AT_ONCE)
    for _, each in ipairs(pending) do
      redis.call('XCLAIM', anew, 'log', each[2], 0, each[1], 'FORCE', 'JUSTID')
      from = '(' .. each[1]
    end
  until #pending < AT_ONCE
end

local function write_anew()
  if redis.call('EXISTS', log) == 0 then return 0 end
  local removed, left, from = 0, 0, '-'
  redis.call('DEL', anew)
  repeat
    local entries = redis.call('XRANGE', log, from, '+', 'COUNT', AT_ONCE)
    for _, entry in ipairs(entries) do
      if is_of_visitor(entry[2][2]) then
        removed = removed + 1
      else
        redis.call('XADD', anew, entry[1], unpack(entry[2]))
        left = left + 1
      end
      from = '(' .. entry[1]
    end
  until #entries < AT_ONCE
  if left > 0 then
    copy_group()
    redis.call('RENAME', anew, log)
  else
    redis.call('DEL', log)
  end
  redis.call('HSET', partition, 'unlogged', left)
  return removed
end

epoch_of(partition, limits.candidate)
local aliases, n_events = aliases_of(visitor), redis.call('ZCARD', events)
take_back(redis.call('ZRANGE', events, 0, -1))
redis.call('DEL', visitor, events, ids, shown)
redis.call('ZREM', seen, limits.name)
local tombstone = tombstone_of(partition, limits.prefix, limits.name)
redis.call('SET', tombstone, limits.now, 'EX', DAY_S + 60)
return {n_events, write_anew(), aliases}
