"""
The keys that the server has, and the steps that it takes at once: scripts, each over keys of one place.

    NAME:{H}:G:a      an answer: token | `core.cluster_octets`        lives as long as the cache keeps it, a week at most
    NAME:{H}:G:p:D:N  part N of a large list, D the first half of its SHA-256   as long
    NAME:{H}:l        the lease of a location: its token              lives for `LEASE_S`
    NAME:{H}:t        the last token of a location                    lives for a day
    NAME:{news}:s     announcements (a stream of bounded length)      lives for 30 days after the last
    NAME:{news}:g     G: grows when the cache is flushed everywhere   lives for 30 days after it was last looked at
    NAME:{news}:n     what nodes say of themselves (a hash)           lives for an hour after the last beat

H is the first half of the SHA-256 of the cache's name for the location, so that no name of a stranger's choosing is a key; what
is in braces keeps the keys of one step on one server of a cluster. Nothing scans keys, and nothing blocks.

Whoever may write there may put anything under these names. What a step finds and did not put there (another type, no number, a
time to come) it takes for nothing and writes over: otherwise a location would never be shared again, or nobody heard.
"""

from __future__ import annotations

# What a reply within a script is. Errors other than that of a type are the caller's: the user may not, the server is full.
_KINDS = """
local function no_type(reply) return type(reply) == 'table' and reply.err and reply.err:find('WRONGTYPE', 1, true) end
local function number_of(reply, digits)
  if type(reply) ~= 'string' or #reply > digits or not reply:match('^[1-9]%d*$') then return nil end
  return tonumber(reply)
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
"""
# A token is the server's time, and later than the one before it. No clock is set back by more than a day.
_NUMBER = (
    _KINDS
    + """
local latest = now + 86400000000
local last = number_of(redis.pcall('GET', KEYS[2]), 18) or 0
if last > latest then last = 0 end
local t = now
if t <= last then t = last + 1 end
local text = string.format('%.0f', t)
"""
)
TAKE = (
    _NUMBER
    + """
if number_of(redis.pcall('GET', KEYS[1]), 18) then return '0' end
redis.call('SET', KEYS[2], text, 'PX', ARGV[2])
redis.call('SET', KEYS[1], text, 'PX', ARGV[1])
return text
"""
)
PUT = (
    _NUMBER
    + """
if ARGV[3] ~= '0' then text = ARGV[3]; t = tonumber(text) else text = ''; t = math.max(1, t - tonumber(ARGV[4])) end
local head = redis.pcall('GETRANGE', KEYS[3], 0, 11)
if type(head) == 'string' and #head == 12 and head:sub(9) == 'CFTA' then
  local there = struct.unpack('>I8', head)
  if there > t and there <= latest then return 0 end
end
redis.call('SET', KEYS[3], struct.pack('>I8', t) .. ARGV[1], 'PX', ARGV[2])
if redis.pcall('GET', KEYS[1]) == text then redis.call('DEL', KEYS[1]) end
return 1
"""
)
HOLD = "if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
GIVE_BACK = "if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
# Who was flushed is told after it counts: where only the first was done, it is done again, and nobody hears it twice. A stream that
# takes no more entries (one was put there with the last number that there is) begins anew: all nodes see that it is another.
ANNOUNCE = (
    _KINDS
    + """
if ARGV[4] == '1' then
  if number_of(redis.pcall('GET', KEYS[2]), 17) then redis.call('INCR', KEYS[2])
  else redis.call('SET', KEYS[2], string.format('%.0f', now)) end
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
local id = redis.pcall('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', 'a', ARGV[1])
if no_type(id) or (id.err and (id.err:find('exhausted', 1, true) or id.err:find('smaller', 1, true))) then
  redis.call('DEL', KEYS[1])
  id = redis.pcall('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', 'a', ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return id
"""
)
# Of each entry its number and its octets; of one that is too long only the number, so that it is passed over.
HEAR = """
local found = redis.call('XREAD', 'COUNT', ARGV[2], 'STREAMS', KEYS[1], ARGV[1])
local entries = {}
for _, one in ipairs(found and found[1][2] or {}) do
  local octets = ''
  for i = 1, #one[2], 2 do if one[2][i] == 'a' then octets = one[2][i + 1] end end
  if #octets > tonumber(ARGV[3]) then octets = '' end
  entries[#entries + 1] = {one[1], octets}
end
return entries
"""
# A server that is full takes no row, and tells who is there all the same. A count of flushes that is lost is never the one of before.
BEAT = (
    _KINDS
    + """
local rows = redis.pcall('HLEN', KEYS[3])
if no_type(rows) or (type(rows) == 'number' and rows > tonumber(ARGV[4])) then redis.call('DEL', KEYS[3]) end
rows = redis.call('HVALS', KEYS[3])
for _, row in ipairs(rows) do
  if #row > tonumber(ARGV[7]) then redis.call('DEL', KEYS[3]); rows = {}; break end
end
local said = redis.pcall('HSET', KEYS[3], ARGV[1], ARGV[2])
if type(said) == 'table' and not said.err:find('OOM', 1, true) then return said end
redis.call('PEXPIRE', KEYS[3], ARGV[3])
local generation = redis.pcall('GET', KEYS[2])
if not number_of(generation, 17) then
  generation = string.format('%.0f', now)
  if redis.pcall('SET', KEYS[2], generation).err then generation = '0' end
end
redis.call('PEXPIRE', KEYS[2], ARGV[5])
local first, last, mine = '', '', 1
if ARGV[6] ~= '' then mine = 0 end
local one = redis.pcall('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
if no_type(one) then redis.call('DEL', KEYS[1])
elseif one.err then return one
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  if #one == 1 then first = one[1][1] end
  if mine == 0 then mine = #redis.call('XRANGE', KEYS[1], ARGV[6], ARGV[6], 'COUNT', 1) end
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
end
return {first, last, generation, mine, redis.call('HVALS', KEYS[3])}
"""
)
