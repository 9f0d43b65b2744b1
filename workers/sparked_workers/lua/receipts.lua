-- Receipts: the one outcome of a key, as it is stored and answered.

local function receipt_key(user, origin, key)
  return prefix .. 'receipt:' .. user .. ':' .. origin .. ':' .. key
end

-- What only some receipts have, as a last JSON object; numbers are whole.
local function details_json(details)
  local members = {}
  for name, value in pairs(details) do
    members[#members + 1] = '"' .. name .. '":' .. (type(value) == 'number' and whole(value) or cjson.encode(value))
  end
  table.sort(members)
  return ',{' .. table.concat(members, ',') .. '}'
end

-- A receipt as it is stored: a JSON array that later versions may only append to.
local function receipt_json(status, intent, posted, held, seq, at, details)
  if intent.terms then
    details = details or {}
    details.terms = intent.terms
  end
  return '[1,"' .. status .. '","' .. intent.kind .. '",' .. intent.amount .. ',"' .. intent.action .. '",'
    .. posted .. ',' .. held .. ',' .. seq .. ',' .. at .. (details and details_json(details) or '') .. ']'
end

local function refused_json(status, intent, account, details)
  if not account then
    return receipt_json(status, intent, '0', '0', '0', now_text, details)
  end
  return receipt_json(status, intent, account.posted_text, account.held_text, account.seq_text, now_text, details)
end

-- Adds an outcome to those that the worker publishes: whose, when it arrived, and a receipt (sparked_credits/applied.py).
local function publish(user, receipt)
  local name = find(user, '["\\]') and cjson.encode(user) or '"' .. user .. '"'
  outcomes[#outcomes + 1] = '[' .. name .. ',' .. arrived .. ',' .. receipt .. ']'
end

-- Reads a stored receipt. Numbers are exact: they are whole, and below 2^53.
local function read_receipt(text)
  local stored = cjson.decode(text)
  return { status = stored[2], kind = stored[3], amount = stored[4], action = stored[5], posted = stored[6],
    held = stored[7], seq = stored[8], at = stored[9], details = stored[10] or {} }
end

local function is_same_payload(intent, stored)
  if intent.terms or sub(stored, -2) == '}]' then
    local receipt = read_receipt(stored)
    local terms = receipt.details.terms
    if intent.terms or terms then
      return receipt.kind == intent.kind and terms == intent.terms
    end
  end
  local kind, amount, action = match(stored, '^%[%d+,"[%l_]+","([%l_]+)",(-?%d+),"([^"]*)"')
  return kind == intent.kind and amount == intent.amount and action == intent.action
end
