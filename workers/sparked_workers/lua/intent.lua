-- Reads an intent from its JSON, trusting nothing: whoever may write to a stream may write anything.

-- More than the longest that an app may send; reading a longer one would take the store's time and memory.
local INTENT_BYTES_MAX = 131072

-- The characters beyond ASCII, as UTF-8 has them.
local BEYOND_ASCII = {
  '[\194-\223][\128-\191]', '\224[\160-\191][\128-\191]', '[\225-\236\238\239][\128-\191][\128-\191]',
  '\237[\128-\159][\128-\191]', '\240[\144-\191][\128-\191][\128-\191]',
  '[\241-\243][\128-\191][\128-\191][\128-\191]', '\244[\128-\143][\128-\191][\128-\191]',
}

-- Whether readers can make text of it: one that can't would fail on the whole history.
local function is_utf8(text)
  for _, character in ipairs(BEYOND_ASCII) do
    text = gsub(text, character, ' ')
  end
  return not find(text, '[\128-\255]')
end

-- White space and control characters are the bytes up to 32, and 127. Most texts are printable ASCII throughout, which
-- is found out first, and quickest by few ranges: `;` to `z` and `!` to `9` leave out `:`.
local function is_name(text, length_max)
  return type(text) == 'string' and text ~= '' and #text <= length_max
    and (not find(text, '[^;-z!-9|~]') or not find(text, '[%z\1-\32\127:{}]') and is_utf8(text))
end

local function is_key(text)
  return type(text) == 'string' and text ~= '' and #text <= 1020
    and (not find(text, '[^!-~]') or not find(text, '[%z\1-\32\127]') and is_utf8(text))
end

local function is_line(text, length_max)
  return type(text) == 'string' and #text <= length_max and not find(text, '[%z\1-\31\127]') and is_utf8(text)
end

-- Fields that say yes by being there, for `false` and `null` of other writers would say it too.
local function is_flag(value)
  return value == nil or value == '1'
end

local function is_action(text)
  return type(text) == 'string' and #text <= 64 and find(text, '^[%w_.:/-]+$') ~= nil
end

local function is_digits(text, length_max)
  return type(text) == 'string' and #text <= length_max and find(text, '^%d+$') ~= nil
end

local function is_amount(text)
  return is_digits(text, 16) and tonumber(text) <= AMOUNT_MAX
end

local function is_signed_amount(text)
  return type(text) == 'string' and is_amount((gsub(text, '^%-', '', 1)))
end

-- What is wrong with the fields that every kind has, or nil.
local function complaint(intent, kind)
  if intent.v ~= 1 then return 'unknown version' end
  if not is_name(intent.user, 512) then return 'user is malformed' end
  if not is_name(intent.origin, 512) then return 'origin is malformed' end
  if not is_key(intent.key) then return 'key is malformed' end
  if not is_action(intent.action) then return 'action is malformed' end
  if not is_amount(intent.amount) and not (kind and kind.amount_min < 0 and is_signed_amount(intent.amount)) then
    return 'amount is malformed'
  end
  if intent.deadline ~= nil and not is_digits(intent.deadline, 16) then return 'deadline is malformed' end
  if intent.terms ~= nil and not is_line(intent.terms, 2048) then return 'terms are malformed' end
  if type(intent.metadata) ~= 'string' or #intent.metadata > 8192 then return 'metadata is malformed' end
end

-- Returns the intent, or nil and the reason, and then what could be read of it, for the answer.
local function parse(raw, stream)
  if #raw > INTENT_BYTES_MAX then
    return nil, 'too long', {}
  end
  local ok, intent = pcall(cjson.decode, raw)
  if not ok or type(intent) ~= 'table' then
    return nil, 'not a JSON object', {}
  end
  local kind = kinds[intent.kind]
  local reason = complaint(intent, kind)
    or (not kind or stream == 'intents' and kind.stream ~= stream) and 'unknown kind for this stream'
    -- Else an app could use up the keys of admins and jobs.
    or (intent.origin == 'system') ~= (stream == 'control') and 'origin is not of this stream'
    or tonumber(intent.amount) < kind.amount_min and 'amount is too small'
    or kind.complaint and kind.complaint(intent)
  if reason then
    return nil, reason, intent
  end
  -- Without leading zeros, for it is compared as text with what the receipt holds.
  local first = sub(intent.amount, 1, 1)
  if first == '0' or first == '-' then
    intent.amount = whole(tonumber(intent.amount))
  end
  return intent
end

-- Answers are gathered per client: its worker publishes them as one message. Only a client that awaits gets one.
local function answer(intent, replayed, receipt)
  local ticket = intent.ticket
  -- As JSON has numbers, for one that is none would spoil the message of all.
  if type(ticket) ~= 'string' or #ticket > 15 or not find(ticket, '^[1-9]%d*$') or type(intent.client) ~= 'string' then
    return
  end
  local said = '[' .. ticket .. ',' .. replayed .. ',' .. receipt .. ']'
  local before = answers[intent.client]
  if before then
    before[#before + 1] = said
  else
    answers[intent.client] = { said }
  end
end

-- Answers what was decided just now, and tells whoever watches; checkpoints, which change nothing, are not worth it.
local function conclude(intent, receipt)
  if not kinds[intent.kind].leaves_no_receipt then
    publish(intent.user, receipt)
  end
  answer(intent, 0, receipt)
end
