# Reads a JSON list of texts and writes, for each, nothing if Ruby's own parser refuses it, or else its skills: the id,
# and of each declaration its word and its value, where that is one literal. Nothing of a text is run.
require "json"

TREE = RubyVM::AbstractSyntaxTree
WORDS = %w[
  version title use_when inputs requires depends_on content formalization_notes guarantees evolve definition behavior
  tool effect
].freeze

def node?(value) = value.is_a?(TREE::Node)

# The statements of a body.
def statements(body)
  return [] unless node?(body)
  return body.children.flat_map { |child| statements(child) } if body.type == :BLOCK
  body.type == :BEGIN && body.children == [nil] ? [] : [body]
end

def arguments(call)
  list = call.children[1]
  node?(list) && list.type == :LIST ? list.children.compact : []
end

# A literal as JSON; nothing if it is none.
def literal(node)
  case node.type
  when :STR then [node.children[0]]
  when :NIL then [nil]
  when :TRUE then [true]
  when :FALSE then [false]
  when :LIT
    case value = node.children[0]
    when Symbol then [{ "$sym" => value.to_s }]
    when Integer, Float then [value]
    end
  when :ZLIST then [[]]
  when :LIST
    items = node.children.compact.map { |child| literal(child) }
    items.all? ? [items.map(&:first)] : nil
  end
end

def member(node)
  call = node.type == :ITER ? node.children[0] : node
  return unless %i[FCALL VCALL].include?(call.type) && WORDS.include?(call.children[0].to_s)
  given = call.type == :FCALL ? arguments(call) : []
  value = node.type != :ITER && given.size == 1 ? literal(given[0]) : nil
  [call.children[0].to_s, value]
end

def skill(node)
  return unless node.type == :ITER && node.children[0].type == :FCALL && node.children[0].children[0] == :skill
  given = arguments(node.children[0])
  id = given.size == 1 ? literal(given[0])&.first : nil
  id = id["$sym"] if id.is_a?(Hash)
  return unless id.is_a?(String)
  { id: id, members: statements(node.children[1].children[2]).filter_map { |child| member(child) } }
end

shapes = JSON.parse($stdin.read).map do |text|
  tree = TREE.parse(text)
  statements(tree.children[2]).filter_map { |node| skill(node) }
rescue SyntaxError, ArgumentError, EncodingError
  nil
end
$stdout.write(JSON.generate(shapes))
