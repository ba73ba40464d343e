"""What Redis carries out as one: each script sees and leaves the log or the state whole."""

from typing import Final

APPEND: Final = """
local log, ids, bodies = KEYS[1], KEYS[2], KEYS[3]
local last = 0
if redis.call('EXISTS', log) == 1 then
  local about = redis.call('XINFO', 'STREAM', log)
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then last = tonumber(string.sub(about[i + 1], 3)) end
  end
end
local places = {last}
for i = 1, #ARGV, 3 do
  local place = string.format('%.0f', last + 1)
  if redis.call('HSETNX', ids, ARGV[i], place) == 1 then
    redis.call('XADD', log, '0-' .. place, '', '')
    redis.call('HSET', bodies, place, ARGV[i + 2])
    if ARGV[i + 1] ~= '0' then redis.call('SADD', KEYS[tonumber(ARGV[i + 1])], place) end
    last = last + 1
    places[#places + 1] = last
  else
    places[#places + 1] = 0
  end
end
return places
"""
"""Append events to the log. Returns the last place before, then the place of each event, 0 if its id is there already.

KEYS: stream, ids, bodies, then the index of each viewer; ARGV: event id, place of its viewer in KEYS or 0, body.
Numbers of Lua are exact up to 2**53.
"""

READ: Final = """
local places, bodies = {}, {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '0-' .. ARGV[1], '+', 'COUNT', ARGV[2])) do
  places[#places + 1] = string.sub(entry[1], 3)
end
if #places > 0 then bodies = redis.call('HMGET', KEYS[2], unpack(places)) end
return {redis.call('GET', KEYS[3]), places, bodies}
"""
"""Read events of the log. Returns up to where it was trimmed, then places, then bodies.

KEYS: stream, bodies, trimmed; ARGV: first place, most events.
"""

REMOVE: Final = """#!lua flags=allow-oom
local removed = 0
for i = 2, #ARGV, 3 do
  local place = ARGV[i + 1]
  if redis.call('HGET', KEYS[2], ARGV[i]) == place then redis.call('HDEL', KEYS[2], ARGV[i]) end
  removed = removed + redis.call('HDEL', KEYS[3], place)
  if ARGV[i + 2] ~= '0' then redis.call('SREM', KEYS[tonumber(ARGV[i + 2])], place) end
  if ARGV[1] == '' then redis.call('XDEL', KEYS[1], '0-' .. place) end
end
if ARGV[1] ~= '' then
  redis.call('XTRIM', KEYS[1], 'MINID', '0-' .. string.format('%.0f', tonumber(ARGV[1]) + 1))
  redis.call('SET', KEYS[4], ARGV[1])
end
return removed
"""
"""Remove events from the log, and everything before a place.

KEYS: stream, ids, bodies, trimmed, then the index of each viewer; ARGV: the place, or nothing for these events only,
then for each event its id, its place, and the place of its viewer in KEYS or 0. A full Redis lets it through, which it
would not a transaction: this makes room.
"""

COMMIT: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return 0 end
local i = 5
while i <= #ARGV do
  local last = i + 2 + tonumber(ARGV[i])
  redis.call(ARGV[i + 1], KEYS[3 + tonumber(ARGV[i + 2])], unpack(ARGV, i + 3, last))
  i = last + 1
end
redis.call('SET', KEYS[2], ARGV[3])
if ARGV[4] ~= '' then
  local told = redis.pcall('XGROUP', 'SETID', KEYS[3], 'state', '0-' .. ARGV[4], 'ENTRIESREAD', ARGV[4])
  if told.err then
    redis.pcall('XGROUP', 'CREATE', KEYS[3], 'state', '0-' .. ARGV[4], 'MKSTREAM', 'ENTRIESREAD', ARGV[4])
  end
end
return 1
"""
"""Carry out commands if the state still stands where it was read, else nothing.

KEYS: owner, position, log, then those of the commands; ARGV: generation, position as read, position after, place to
tell the consumer group or nothing, then for each command how many arguments, its name, its key, its arguments.
"""

ERASE: Final = "#!lua flags=allow-oom\n" + COMMIT
"""The same for what makes room, which a full Redis is to let through."""

TAKE_OVER: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return 0 end
local before = redis.call('GET', KEYS[3])
if before and cmsgpack.unpack(before)[2] > tonumber(ARGV[3]) then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[1])
return 1
"""
"""Make the generation that was built the live one, unless the live one is ahead of it.

KEYS: building, live, position of the live one; ARGV: built, live one, how far the built one has come.
"""
