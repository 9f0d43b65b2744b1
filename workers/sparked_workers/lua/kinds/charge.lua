-- charge: Takes credits from an account, as far as they are available.
-- applied: account, entry, totals `charged`, receipt.
-- insufficient_credits: receipt.

local function is_price(text)
  if not is_line(text, 1024) then return false end
  local ok, price = pcall(cjson.decode, text)
  return ok and type(price) == 'table' and type(price.name) == 'string' and type(price.quantity) == 'string'
    and type(price.unit_price) == 'string' and type(price.version) == 'string'
end

local function price_complaint(intent)
  if intent.price ~= nil and not is_price(intent.price) then return 'price is malformed' end
end

-- Shared with `post_charge`: what is taken, by whom, and from which lots.
local function take(intent, account)
  local amount = tonumber(intent.amount)
  local parts = draw(account, amount)
  enter(account, intent.kind, 'charged', '-' .. intent.amount, intent, intent.price and { price = intent.price })
  if account.limits then
    count_spent(account, intent.action, amount, now)
  end
  local lots = parts and parts_text(parts)
  return lots and { lots = lots }
end

kinds.charge = {
  stream = 'intents',
  amount_min = 1,
  complaint = price_complaint,
  refusal = function(intent, account)
    local amount = tonumber(intent.amount)
    if amount > account.posted - account.held then return 'insufficient_credits' end
    if account.limits then return limit_refusal(account, intent.action, amount) end
  end,
  effect = take,
}
