a = []
a << a
f = lambda { |x| x.call(x) }
s = "ab" * 1000
b = [s] * 100
10.times { |n| s = s + s[0..n] }
(1..1000).each { |n| a << n if n % 7 == 0 }
f.call(f)
