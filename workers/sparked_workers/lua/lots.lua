-- Lots: which credits of an account are spent first, and when they end.

-- An account lists its lots in burn order, but for `paid`, the last: it is what the others leave, and may be negative,
-- a debt. Most accounts list none, and pay nothing for lots. A lot's name holds its terms: <priority>-<end>-<seq>.

local LOTS_MAX = 64

local function terms_of(name)
  local priority, expires, seq = match(name, '^(%l+)%-(%d+)%-(%d+)$')
  return priority or name, tonumber(expires) or math.huge, tonumber(seq) or 0
end

local function burns_before(one, other)
  local priority, expires, seq = terms_of(one)
  local other_priority, other_expires, other_seq = terms_of(other)
  if priority ~= other_priority then return priority == 'promotional' end
  if expires ~= other_expires then return expires < other_expires end
  return seq < other_seq
end

local function read_lots(text)
  local lots = {}
  for name, available, held in gmatch(text or '', '([^= ]+)=(%d+)/(%d+)') do
    local _, expires = terms_of(name)
    lots[#lots + 1] = { name = name, available = tonumber(available), held = tonumber(held), expires = expires }
  end
  return lots
end

local function lots_text(lots)
  local words = {}
  for i, lot in ipairs(lots) do
    words[i] = lot.name .. '=' .. whole(lot.available) .. '/' .. whole(lot.held)
  end
  return table.concat(words, ' ')
end

-- Those that are not used up.
local function lots_left(lots)
  local left = {}
  for _, lot in ipairs(lots) do
    if lot.available ~= 0 or lot.held ~= 0 then left[#left + 1] = lot end
  end
  return left
end

-- Parts: how much of which lot, in burn order. All of it is `paid` where none are stated.
local function read_parts(text, amount)
  if not text or text == '' then
    return { { name = 'paid', amount = amount } }
  end
  local parts = {}
  for name, part in gmatch(text, '([^= ]+)=(%d+)') do
    parts[#parts + 1] = { name = name, amount = tonumber(part) }
  end
  return parts
end

-- The opposite; nil where all of it is `paid`.
local function parts_text(parts)
  if not parts or not parts[1] or (parts[1].name == 'paid' and not parts[2]) then
    return nil
  end
  local words = {}
  for i, part in ipairs(parts) do
    words[i] = part.name .. '=' .. whole(part.amount)
  end
  return table.concat(words, ' ')
end

-- The first `amount` of some parts, and the rest of them.
local function split_parts(parts, amount)
  local first, rest = {}, {}
  for _, part in ipairs(parts) do
    local taken = min(part.amount, amount)
    amount = amount - taken
    if taken > 0 then first[#first + 1] = { name = part.name, amount = taken } end
    if part.amount > taken then rest[#rest + 1] = { name = part.name, amount = part.amount - taken } end
  end
  return first, rest
end

-- What lot `paid` has available.
local function paid_available(account)
  local rest = account.posted - account.held
  for _, lot in ipairs(account.lots or {}) do
    rest = rest - lot.available
  end
  return rest
end

local function owed(account)
  return max(0, -paid_available(account))
end

-- A lot that the account lists, or nil.
local function find_lot(account, name)
  for _, lot in ipairs(account.lots or {}) do
    if lot.name == name then return lot end
  end
end

-- A lot of the account, listed again if it was used up since.
local function lot_named(account, name)
  local listed = find_lot(account, name)
  if listed then
    return listed
  end
  local at = 1
  while account.lots[at] and not burns_before(name, account.lots[at].name) do
    at = at + 1
  end
  local _, expires = terms_of(name)
  local lot = { name = name, available = 0, held = 0, expires = expires }
  table.insert(account.lots, at, lot)
  return lot
end

-- Moves credits of one lot, and notes that for the entry which follows.
local function move(account, name, available, held)
  account.lots = account.lots or {}
  account.changes = account.changes or {}
  local change = account.changes[name]
  if not change then
    change = { name = name, available = 0, held = 0 }
    account.changes[name] = change
    table.insert(account.changes, change)
  end
  change.available = change.available + available
  change.held = change.held + held
  if name ~= 'paid' then
    account.more = true
    local lot = lot_named(account, name)
    lot.available = lot.available + available
    lot.held = lot.held + held
  end
end

-- What was moved since the last entry, as an entry states it; nil where that is `paid` alone.
local function changes_text(account)
  local changes = account.changes
  account.changes = nil
  local words, listed = {}, false
  for _, change in ipairs(changes or {}) do
    if change.available ~= 0 or change.held ~= 0 then
      listed = listed or change.name ~= 'paid'
      words[#words + 1] = change.name .. '=' .. whole(change.available)
        .. (change.held ~= 0 and '/' .. whole(change.held) or '')
    end
  end
  return listed and table.concat(words, ' ') or nil
end

-- The parts that `amount` would be taken from; nil where the account lists no lots.
local function parts_to_draw(account, amount)
  if not account.lots or not account.lots[1] then
    return nil
  end
  local parts = {}
  for _, lot in ipairs(account.lots) do
    local part = min(lot.available, amount)
    if part > 0 then
      parts[#parts + 1] = { name = lot.name, amount = part }
      amount = amount - part
    end
  end
  if amount > 0 then parts[#parts + 1] = { name = 'paid', amount = amount } end
  return parts
end

-- Takes them; returns what `parts_to_draw` does.
local function draw(account, amount)
  local parts = parts_to_draw(account, amount)
  if parts then
    for _, part in ipairs(parts) do
      move(account, part.name, -part.amount, 0)
    end
  end
  return parts
end

-- Gives parts back to their lots; what is owed is paid first. `was_held` is 1 if they were held until now, else 0.
local function give_back(account, parts, was_held)
  local debt = owed(account)
  for _, part in ipairs(parts) do
    if part.name == 'paid' then debt = max(0, debt - part.amount) end
  end
  for _, part in ipairs(parts) do
    local paid = part.name ~= 'paid' and min(part.amount, debt) or 0
    debt = debt - paid
    move(account, part.name, part.amount - paid, -part.amount * was_held)
    if paid > 0 then move(account, 'paid', paid, 0) end
  end
end
