-- Sends requests drawn at random from a file: a line with the Authorization header's value, then lines of
-- path, tab, body. They are formatted beforehand, so that drawing one costs the load generator next to nothing.
-- GraphQL says in the body, not in the status, that something failed: each answer's beginning and end are looked at.
local requests, threads = {}, {}
wrong, example = 0, "" -- of this thread, which is why they are global: done() runs in another

function setup(thread)
  threads[#threads + 1] = thread
end

function init(arguments)
  math.randomseed(tonumber(arguments[2]))
  local file = assert(io.open(arguments[1]))
  local headers = { ["Content-Type"] = "application/json" }
  local authorization = file:read("*l")
  if authorization ~= "" then
    headers["Authorization"] = authorization
  end
  for line in file:lines() do
    local path, body = line:match("^(%S+)\t(.*)$")
    requests[#requests + 1] = wrk.format("POST", path, headers, body)
  end
  file:close()
end

function request()
  return requests[math.random(#requests)]
end

function response(status, _, body)
  if status ~= 200 or not body:find('^{"data": ?{"') or body:sub(-2) ~= "}}" or body:find("null}}$", -6) then
    wrong = wrong + 1
    example = body:sub(1, 200)
  end
end

function done(summary, latency)
  local errors, wrong, example = summary.errors, 0, ""
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
    example = thread:get("example")
  end
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "failed": %d, "wrong": %d, "p50": %.1f, "p99": %.1f}\n%s\n',
    summary.requests, summary.duration, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    wrong, latency:percentile(50), latency:percentile(99), (example:gsub("%s+", " "))
  ))
end
