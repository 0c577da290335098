skill :one do
  title "One"
  version "1.0"
  guarantees { calm }
  evolve do
    allow :content
    deny :behavior
  end
  behavior do
    Kairos.skills.map do |skill|
      { id: skill.id, rules: skill.evolution_rules&.to_h, fixed: !skill.can_evolve?(:behavior), has: !skill.behavior.nil? }
    end
  end
end

skill :two do
  behavior do
    check = lambda do |skill_id:, reason: nil|
      law = Kairos.skill(:one)&.behavior&.call || []
      ledger = KairosChain::Chain.new
      path = File.join(File.dirname(KairosMcp.dsl_path), "versions")
      config = KairosMcp::SkillsConfig.load
      syntax = begin
        RubyVM::AbstractSyntaxTree.parse("skill :a do")
        true
      rescue SyntaxError => e
        e.message
      end
      { found: law.any? { |row| row[:id] == skill_id.to_sym }, blocks: ledger.blocks.size, last: ledger.blocks.last&.hash,
        there: Dir.exist?(path), limit: config["max_evolutions_per_session"] || 3, reason: reason && !reason.strip.empty?,
        syntax: syntax, used: KairosMcp::SafeEvolver.evolution_count }
    end
    check.call(skill_id: "one")
  end
end

skill :tools do
  tool do
    name "count_things"
    description "Counts"
    property :list, type: "array", description: "things"
    property :deep, type: "object", description: "more"
    required :list
    execute { |args| { size: args["list"].size, deep: args.dig("deep", "a", "b"), all: args } }
  end
end
