# Ruby that is no plain skill.
skill :a do
  version "1.0"
  title "A" + "b"
  guarantees { safe; true }
  evolve do
    allow :content
    deny :all
    when(:asked) { |x| x }
  end
  content <<~TEXT
    One #{two}
  TEXT
end
skill(:b) { title %q(B) }
system "true"
