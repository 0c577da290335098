# Reads a JSON list of code and writes what Ruby shows of each value.
require "json"

shown = JSON.parse($stdin.read).map do |code|
  eval(code, TOPLEVEL_BINDING.dup).inspect
rescue Exception => e
  "#{e.class}: #{e.message}"
end
$stdout.write(JSON.generate(shown))
