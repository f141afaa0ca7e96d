-- Hands out records that wait for the log, oldest first. Those of a consumer that died come first;
-- until they can be taken over nothing is handed out, as the log is written in order.
-- KEYS: partition, log. ARGV: consumer, limit, the seconds after which a consumer is dead.
-- Returns the epoch, the numbers of the records, and their lines. Each is one text, as a client takes
-- long to read many.
local partition, log = unpack(KEYS)
local consumer, limit, dead_ms = ARGV[1], tonumber(ARGV[2]), ARGV[3] * 1000
local epoch = redis.call('HGET', partition, 'epoch') or ''
if redis.call('EXISTS', log) == 0 then return {epoch, '', ''} end

local function of_others()
  local pending = 0
  for _, each in ipairs(redis.call('XPENDING', log, 'log')[4] or {}) do
    if each[1] ~= consumer then pending = pending + each[2] end
  end
  return pending
end

local function read(from, count)
  local found = redis.call('XREADGROUP', 'GROUP', 'log', consumer, 'COUNT', count, 'STREAMS', log, from)
  return found and found[1][2] or {}
end

redis.pcall('XGROUP', 'CREATE', log, 'log', '0')
if of_others() > 0 then
  local cursor = '0-0'
  repeat
    local claimed = redis.call('XAUTOCLAIM', log, 'log', consumer, dead_ms, cursor, 'COUNT', 1000, 'JUSTID')
    cursor = claimed[1]
  until cursor == '0-0'
  if of_others() > 0 then return {epoch, '', ''} end
end
local numbers, lines = {}, {}
local function hand_out(entries)
  for _, entry in ipairs(entries) do
    numbers[#numbers + 1] = string.match(entry[1], '^%d+')
    lines[#lines + 1] = entry[2][2]
  end
end
hand_out(read('0', limit))
if #lines < limit then hand_out(read('>', limit - #lines)) end
return {epoch, table.concat(numbers, ' '), table.concat(lines)}
