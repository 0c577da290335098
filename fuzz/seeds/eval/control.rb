total = 0
names = [:b, "a", nil, 1.5, true].select { |item| item }
grow = lambda do |list, times: 3|
  list
end
twice = lambda { |list, times: 2| (1..times).map { |n| list[n - 1] || n } }
total += twice.call(names, times: 4).size
pairs = { a: 1, "b" => [1, 2], 3 => nil }
answer = begin
  pairs.fetch(:missing)
rescue KeyError, TypeError => e
  "none: #{e.message}"
end
case total
when 1..3 then "few"
when 4, 5 then { total: total, answer: answer, pairs: pairs.map { |k, v| [k.to_s, v] }.to_h }
else raise ArgumentError, "too many"
end
