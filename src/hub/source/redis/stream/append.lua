-- Adds an entry to a stream, and lets go what the topic's class no longer keeps: one step, whatever else happens.
--
-- KEYS: the stream; perhaps the memory of an idempotency key.
-- ARGV: how long entries are kept, in ms; about how many, or 0 for no bound; how many bytes the stream may weigh, or 0 not
-- to look this time; how long the idempotency key is remembered, in ms; then the entry's fields and values.
--
-- The consumer group `fanfare` marks the streams that were made here. It is part of the stream, and so is deleted,
-- copied, dumped and replicated with it. A stream without it is another application's: it is added to and nothing else.
local stream, memory = KEYS[1], KEYS[2]
if memory then
  local first = redis.call('GET', memory)
  if first then return first end
end
local is_ours = not redis.pcall('XPENDING', stream, 'fanfare').err
local is_new = not is_ours and redis.call('EXISTS', stream) == 0
local id
if is_ours and ARGV[2] ~= '0' then
  id = redis.call('XADD', stream, 'MAXLEN', '~', ARGV[2], '*', unpack(ARGV, 5))
else
  id = redis.call('XADD', stream, '*', unpack(ARGV, 5))
end
if memory then redis.call('SET', memory, id, 'PX', ARGV[4]) end
if is_new then
  -- Behind every entry there can be, so that nobody takes the group for a consumer that lags.
  redis.call('XGROUP', 'CREATE', stream, 'fanfare', '18446744073709551615-18446744073709551615')
elseif not is_ours then
  return id
end
redis.call('PEXPIRE', stream, ARGV[1])
local oldest = tonumber(string.match(id, '^%d+')) - tonumber(ARGV[1])
if 0 < oldest then
  redis.call('XTRIM', stream, 'MINID', '~', string.format('%.0f', oldest))
end
local most = tonumber(ARGV[3])
if 0 < most then
  -- What is measured and dropped are whole nodes of the stream. The newest stays, whatever it weighs.
  local length = redis.call('XLEN', stream)
  local weight = redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', '0')
  while most < weight and 1 < length do
    length = math.max(1, math.floor(length * most / weight * 0.9))
    redis.call('XTRIM', stream, 'MAXLEN', '~', tostring(length))
    weight = redis.call('MEMORY', 'USAGE', stream, 'SAMPLES', '0')
  end
end
return id
