words = "the quick brown fox".split(" ").sort_by { |word| [-word.size, word] }
counts = words.flat_map(&:chars).tally.select { |_, n| n > 1 }
nested = [[1, [2, 3]], [4]].flatten.reduce(0) { |sum, n| sum + n }
grouped = (1...20).group_by { |n| n % 3 }.transform_values { |list| list.sum }
odd = even = nil
text = "a-b-c".gsub("-", "+").upcase[0..2] + ("x" * 3) + words.join(", ")
list = [3, 1, 2].sort.reverse.uniq + [nil].compact
list << list.size
list[0] = -7 / 2
{ counts: counts, nested: nested, grouped: grouped, text: text, list: list, max: list.max, deep: { a: [{ b: 1 }] }.dig(:a, 0, :b) }
