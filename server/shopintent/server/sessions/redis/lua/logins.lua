-- Returns the numbers and lines of the logins of somebody that wait for the log.
-- KEYS: log. ARGV: the pseudonyms.
local found, from = {}, '-'
repeat
  local entries = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ENTRIES_AT_ONCE)
  for _, entry in ipairs(entries) do
    local line = entry[2][2]
    for _, pseudonym in ipairs(ARGV) do
      if string.find(line, '"login"', 1, true) and string.find(line, pseudonym, 1, true) then
        found[#found + 1] = string.match(entry[1], '^%d+')
        found[#found + 1] = line
        break
      end
    end
    from = '(' .. entry[1]
  end
until #entries < ENTRIES_AT_ONCE
return found
