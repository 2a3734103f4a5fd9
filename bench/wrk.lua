-- Sends requests drawn at random from a file: a line with the Authorization header's value, then lines of
-- path, tab, body. They are formatted beforehand, so that drawing one costs the load generator next to nothing.
local requests = {}

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

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "bytes": %d, "failed": %d, "p50": %.1f, "p99": %.1f}\n',
    summary.requests, summary.duration, summary.bytes,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)
  ))
end
