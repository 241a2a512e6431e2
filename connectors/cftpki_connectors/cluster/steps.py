"""
The keys that the server has, and the steps that it takes at once: scripts, each over keys of one place.

    NAME:{H}:G:a      an answer: token | `core.cluster_octets`        lives as long as the cache keeps it, a week at most
    NAME:{H}:G:p:D:N  part N of a large list, D the first half of its SHA-256   as long
    NAME:{H}:l        the lease of a location: its token              lives for `LEASE_S`
    NAME:{H}:t        the last token of a location                    lives for a day
    NAME:{news}:s     announcements (a stream of bounded length)      lives for 30 days after the last
    NAME:{news}:g     G: how often the cache was flushed everywhere   lives for 30 days after it was last looked at
    NAME:{news}:n     what nodes say of themselves (a hash)           lives for an hour after the last beat

H is the first half of the SHA-256 of the cache's name for the location, so that no name of a stranger's choosing is a key; what
is in braces keeps the keys of one step on one server of a cluster. Nothing scans keys, and nothing blocks.
"""

from __future__ import annotations

# A token is the server's time, and later than the one before it.
_NUMBER = """
local now = redis.call('TIME')
local t = tonumber(now[1]) * 1000000 + tonumber(now[2])
local last = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
if t <= last then t = last + 1 end
local text = string.format('%.0f', t)
"""
TAKE = (
    "if redis.call('EXISTS', KEYS[1]) == 1 then return '0' end"
    + _NUMBER
    + """
redis.call('SET', KEYS[2], text, 'PX', ARGV[2])
redis.call('SET', KEYS[1], text, 'PX', ARGV[1])
return text
"""
)
PUT = (
    _NUMBER
    + """
if ARGV[3] ~= '0' then text = ARGV[3]; t = tonumber(text) end
local head = redis.call('GETRANGE', KEYS[3], 0, 7)
if #head == 8 and struct.unpack('>I8', head) > t then return 0 end
redis.call('SET', KEYS[3], struct.pack('>I8', t) .. ARGV[1], 'PX', ARGV[2])
if redis.call('GET', KEYS[1]) == text then redis.call('DEL', KEYS[1]) end
return 1
"""
)
HOLD = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
GIVE_BACK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
ANNOUNCE = """
local id = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', 'a', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if ARGV[4] == '1' then redis.call('INCR', KEYS[2]); redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
return id
"""
BEAT = """
if redis.call('HLEN', KEYS[3]) > tonumber(ARGV[4]) then redis.call('DEL', KEYS[3]) end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
local first, last, mine = '', '', 1
if ARGV[6] ~= '' then mine = 0 end
if redis.call('EXISTS', KEYS[1]) == 1 then
  local one = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
  if #one == 1 then first = one[1][1] end
  if mine == 0 then mine = #redis.call('XRANGE', KEYS[1], ARGV[6], ARGV[6], 'COUNT', 1) end
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
end
return {first, last, redis.call('GET', KEYS[2]) or '0', mine, redis.call('HVALS', KEYS[3])}
"""
