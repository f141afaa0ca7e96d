-- Drops the records that wait of pseudonyms, each up to the number of the login that ended it.
-- KEYS: partition, log, log being written anew. ARGV: pseudonyms, each with its number behind it.
-- Returns how many there were.
local partition, log, anew = unpack(KEYS)

local function is_gone(line, number)
  for at = 1, #ARGV, 2 do
    local shopper = '"shopper":"' .. ARGV[at] .. '"'
    if number < tonumber(ARGV[at + 1]) and string.find(line, shopper, 1, true) then return true end
  end
  return false
end

return write_log_anew(partition, log, anew, is_gone)
