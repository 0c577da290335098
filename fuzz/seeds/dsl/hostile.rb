skill :a do
  behavior { <<X }; title <<~Y
  body
X
  text \\ \#{x}
Y
  guarantees { freeze; A() }
  evolve { when_condition(:a) { 1 } }
  definition { plan :p, steps: %i[a b], at: 1...5 }
end
__END__
