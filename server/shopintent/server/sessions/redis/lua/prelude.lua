-- What the scripts share; it stands before each. All keys of a call are of one partition, and so in
-- one slot of a cluster. Times are the server's, seconds; numbers of events are Redis' own clock in
-- microseconds, so that none is ever used again, whatever was lost.

-- Positions of a visitor that are told apart from what was lost.
local POSITIONS = 8
local FORGOTTEN_AT_ONCE = 20
local ENTRIES_AT_ONCE = 500

-- What a script is told that adds to a visitor (RedisState.limits_of); more stands behind it.
local AFTER_LIMITS = 11
local function read_limits()
  return {
    now = tonumber(ARGV[1]), idle_s = tonumber(ARGV[2]), ttl_s = ARGV[3],
    events = tonumber(ARGV[4]), ids = tonumber(ARGV[5]),
    visitors = tonumber(ARGV[6]), unlogged = tonumber(ARGV[7]),
    candidate = ARGV[8], prefix = ARGV[9], name = ARGV[10],
  }
end

local function micros()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function text(number)
  return string.format('%.0f', number)
end

local function in_order(number)
  return string.format('%016.0f', number)
end

-- Names the run of the partition's numbers: another one after Redis lost its keys. With it goes the
-- secret of its tombstones.
local function epoch_of(partition, candidate)
  local epoch = redis.call('HGET', partition, 'epoch')
  if epoch then return epoch end
  epoch = string.sub(candidate, 1, 16)
  redis.call('HSET', partition, 'epoch', epoch, 'secret', string.sub(candidate, 17))
  return epoch
end

-- Returns the key that says when a visitor was deleted: neither its key nor what the log calls it.
local function tombstone_of(partition, prefix, name)
  local secret = redis.call('HGET', partition, 'secret')
  return secret and prefix .. 'deleted:' .. redis.sha1hex(secret .. name)
end

-- Returns the last time of which events of a visitor are refused; -1 for none.
local function refused_until(partition, prefix, name, now)
  local key = tombstone_of(partition, prefix, name)
  local deleted_at = key and tonumber(redis.call('GET', key))
  if not deleted_at or now - deleted_at > DAY_S then return -1 end
  return deleted_at
end

-- Returns the first of `count` numbers above all that were used.
local function take_numbers(partition, count)
  local last = tonumber(redis.call('HGET', partition, 'last')) or 0
  local first = math.max(micros(), last + 1)
  redis.call('HSET', partition, 'last', text(first + count - 1))
  return first
end

-- Returns what is known of a visitor; nil of those unheard of for too long.
local function look_up(visitor, now, idle_s, alias)
  local found = redis.call('HMGET', visitor, 'born', 'positions', 'seen', 'to', 'joining', 'a:' .. alias,
    'r:' .. alias)
  if not found[1] or now - found[3] > idle_s then return nil end
  local newest = string.match(found[2], '^%d+')
  return {
    born = found[1], positions = found[2], newest = newest or '0',
    to = found[4], joining = found[5] or '', joined = found[6], refused = tonumber(found[7]) or -1,
  }
end

local function seen_again(now, ttl_s, visitor, ...)
  redis.call('HSET', visitor, 'seen', now)
  for _, key in ipairs({visitor, ...}) do
    redis.call('EXPIRE', key, ttl_s)
  end
end

-- Returns where to go on for a key that means another visitor, and keeps the link alive.
local function moved(me, now, ttl_s, visitor)
  seen_again(now, ttl_s, visitor)
  return {'moved', me.to, me.joining}
end

-- Writes that the visitor is at `position` now.
local function reach(visitor, me, number, position)
  local before = me and me.positions or ''
  local kept = {text(position)}
  for each in string.gmatch(before, '%d+') do
    if #kept < POSITIONS then kept[#kept + 1] = each end
  end
  redis.call('HSET', visitor, 'positions', table.concat(kept, ' '))
  redis.call('HSETNX', visitor, 'born', text(number))
end

local function holds(positions, wanted)
  local oldest
  for each in string.gmatch(positions, '%d+') do
    if each == wanted then return true end
    oldest = each
  end
  return false, oldest
end

local function has_room(partition, count, most)
  return (tonumber(redis.call('HGET', partition, 'unlogged')) or 0) + count <= most
end

local function record(partition, log, number, line)
  redis.call('XADD', log, text(number) .. '-0', 'r', line)
  redis.call('HINCRBY', partition, 'unlogged', 1)
end

local function feed_on(feed, number, counted)
  local oldest = text(number - FEED_S * 1000000) .. '-0'
  redis.call('XADD', feed, 'MINID', '~', oldest, text(number) .. '-0', 'c', table.concat(counted, ','))
end

-- Notes that a visitor was heard of; those longest unheard of go when they are too many.
local function heard_of(seen, number, limits)
  redis.call('ZADD', seen, number, limits.name)
  redis.call('ZREMRANGEBYSCORE', seen, '-inf', number - limits.ttl_s * 1000000)
  local excess = math.min(redis.call('ZCARD', seen) - limits.visitors, FORGOTTEN_AT_ONCE)
  if excess <= 0 then return end
  for _, name in ipairs(redis.call('ZRANGE', seen, 0, excess - 1)) do
    for _, kind in ipairs({'visitor:', 'events:', 'ids:', 'shown:'}) do
      redis.call('DEL', limits.prefix .. kind .. name)
    end
    redis.call('ZREM', seen, name)
  end
end

-- Drops what a visitor has too much of.
local function trim(limits, events, ...)
  redis.call('ZREMRANGEBYRANK', events, 0, -(limits.events + 1))
  for _, ids in ipairs({...}) do
    redis.call('ZREMRANGEBYSCORE', ids, '-inf', '(' .. text(math.floor(limits.now) - DAY_S))
    redis.call('ZREMRANGEBYRANK', ids, 0, -(limits.ids + 1))
  end
end

-- Returns whether an id was added lately, to any of the sets.
local function is_known(id, now, ...)
  for _, ids in ipairs({...}) do
    local added = redis.call('ZSCORE', ids, id)
    if added and now - added <= DAY_S then return true end
  end
  return false
end

-- Returns the aliases of a visitor and the numbers of their joins.
local function aliases_of(visitor)
  local fields, names, joins = redis.call('HGETALL', visitor), {}, {}
  for at = 1, #fields, 2 do
    if string.sub(fields[at], 1, 2) == 'a:' then
      names[#names + 1] = string.sub(fields[at], 3)
      joins[#joins + 1] = tonumber(fields[at + 1])
    end
  end
  return names, joins
end

-- Lets the group know the copies as it knew the entries: which were handed out, and to whom.
local function copy_group(log, anew)
  local groups = redis.call('XINFO', 'GROUPS', log)
  if #groups == 0 then return end
  local group = {}
  for at = 1, #groups[1], 2 do group[groups[1][at]] = groups[1][at + 1] end
  redis.call('XGROUP', 'CREATE', anew, 'log', group['last-delivered-id'])
  local from = '-'
  repeat
    local pending = redis.call('XPENDING', log, 'log', from, '+', ENTRIES_AT_ONCE)
    for _, each in ipairs(pending) do
      redis.call('XCLAIM', anew, 'log', each[2], 0, each[1], 'FORCE', 'JUSTID')
      from = '(' .. each[1]
    end
  until #pending < ENTRIES_AT_ONCE
end

-- Writes the records that wait anew without those that are gone, and returns how many those were: a
-- deleted entry of a stream keeps its bytes.
local function write_log_anew(partition, log, anew, is_gone)
  if redis.call('EXISTS', log) == 0 then return 0 end
  local removed, left, from = 0, 0, '-'
  redis.call('DEL', anew)
  repeat
    local entries = redis.call('XRANGE', log, from, '+', 'COUNT', ENTRIES_AT_ONCE)
    for _, entry in ipairs(entries) do
      if is_gone(entry[2][2], tonumber(string.match(entry[1], '^%d+'))) then
        removed = removed + 1
      else
        redis.call('XADD', anew, entry[1], unpack(entry[2]))
        left = left + 1
      end
      from = '(' .. entry[1]
    end
  until #entries < ENTRIES_AT_ONCE
  if left > 0 then
    copy_group(log, anew)
    redis.call('RENAME', anew, log)
  else
    redis.call('DEL', log)
  end
  redis.call('HSET', partition, 'unlogged', left)
  return removed
end
