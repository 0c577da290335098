//! Prompts that have several personas judge something, at once or in a discussion. The model plays them; nothing that
//! they say decides anything.

use std::fmt::Write as _;

use kairos_actors::knowledge::KnowledgeError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mcp::agent::AgentDoor;
use crate::mcp::tool::Refusal;

/// The entry of knowledge that describes personas: a heading `### NAME`, and what they look at.
const DEFINITIONS: &str = "persona_definitions";
/// Who judges where nobody is named, and who leads a discussion.
const DEFAULT: &str = "kairos";
/// What is said of [`DEFAULT`] where nothing describes it.
const DEFAULT_IS: &str = "- Role: advocate of the agent's constitution\n- Focus: can it be checked later, and does it \
                          keep the rules that hold";
/// Most personas.
const PERSONAS_MAX: usize = 10;
/// Longest name of a persona, in bytes.
const NAME_MAX: usize = 64;
/// Lines of its description that are shown, as in the reference.
const LINES_SHOWN: usize = 5;
/// Longest of these lines, in characters.
const LINE_MAX: usize = 300;
/// Rounds of a discussion if nothing is said, and at most.
const ROUNDS: u32 = 3;
const ROUNDS_MAX: u32 = 10;
/// The agreement that ends a discussion, if nothing is said.
const THRESHOLD: f64 = 0.6;

/// How they judge: each once, or in answer to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    #[default]
    Oneshot,
    Discussion,
}

/// Personas who judge something.
#[derive(Debug)]
pub(super) struct Assembly {
    mode: Mode,
    personas: Vec<String>,
    facilitator: String,
    rounds: u32,
    /// In percent.
    threshold: u32,
}

impl Assembly {
    /// Those that a call asks for. Fails where there are too many, or a figure is out of its range.
    pub(super) fn new(
        mode: Option<Mode>,
        personas: Option<Vec<String>>,
        facilitator: Option<String>,
        rounds: Option<u32>,
        threshold: Option<f64>,
    ) -> Result<Self, Refusal> {
        let mut personas = personas.unwrap_or_default();
        if personas.is_empty() {
            personas.push(DEFAULT.to_owned());
        }
        if personas.len() > PERSONAS_MAX {
            let told = format!("Error: at most {PERSONAS_MAX} personas can be asked");
            return Err(Refusal::say(told));
        }
        let facilitator = facilitator.unwrap_or_else(|| DEFAULT.to_owned());
        let is_name = |name: &str| {
            let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ');
            !name.trim().is_empty() && name.len() <= NAME_MAX && name.chars().all(fits)
        };
        if !is_name(&facilitator) || !personas.iter().all(|name| is_name(name)) {
            return Err(Refusal::say(format!(
                "Error: the name of a persona has letters, digits, spaces, `_` or `-`, and at most {NAME_MAX} bytes"
            )));
        }
        let rounds = rounds.unwrap_or(ROUNDS);
        if !(1..=ROUNDS_MAX).contains(&rounds) {
            let told = format!("Error: max_rounds is 1 to {ROUNDS_MAX}");
            return Err(Refusal::say(told));
        }
        let threshold = threshold.unwrap_or(THRESHOLD);
        if !(0.0..=1.0).contains(&threshold) {
            return Err(Refusal::say("Error: consensus_threshold is 0 to 1"));
        }
        Ok(Self {
            mode: mode.unwrap_or_default(),
            personas,
            facilitator,
            rounds,
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is 0 to 100"
            )]
            threshold: (threshold * 100.0).round() as u32,
        })
    }

    /// About how many tokens the answer takes, as the reference estimates it.
    pub(super) fn tokens(&self) -> u32 {
        let personas = u32::try_from(self.personas.len()).unwrap_or(u32::MAX);
        let each = personas.saturating_mul(300);
        match self.mode {
            Mode::Oneshot => each.saturating_add(500),
            Mode::Discussion => each
                .saturating_add(200)
                .saturating_mul(self.rounds)
                .saturating_add(500),
        }
    }

    /// The mode as it is written in a call.
    pub(super) fn mode(&self) -> &'static str {
        match self.mode {
            Mode::Oneshot => "oneshot",
            Mode::Discussion => "discussion",
        }
    }

    /// The prompt: what is judged, and how.
    pub(super) fn prompt(&self, subject: &str, definitions: &str) -> String {
        let title = match self.mode {
            Mode::Oneshot => "Oneshot Mode",
            Mode::Discussion => "Discussion Mode",
        };
        let mut text = format!(
            "⚠️ **Persona Assembly: {title}**\n\nEstimated tokens: ~{}\n\n---\n\n## Persona Assembly Request\n\n\
             {subject}\n### Requested Personas\n\n",
            self.tokens()
        );
        for persona in &self.personas {
            let _ = writeln!(text, "- {persona}");
        }
        let _ = write!(text, "\n---\n\n## {title} Instructions\n\n");
        match self.mode {
            Mode::Oneshot => self.oneshot(&mut text),
            Mode::Discussion => self.discussion(&mut text),
        }
        text.push_str("\n### Persona Reference\n");
        for persona in &self.personas {
            let told = described(definitions, persona);
            let told = told.or_else(|| (persona == DEFAULT).then(|| DEFAULT_IS.to_owned()));
            let told = told.unwrap_or_else(|| "(definition not found)".to_owned());
            let _ = write!(text, "\n**{persona}**:\n{told}\n");
        }
        text
    }

    fn oneshot(&self, text: &mut String) {
        text.push_str(
            "Judge it as each persona would:\n\n```markdown\n#### [persona_name] ([role])\n- **Position**: [SUPPORT / \
             OPPOSE / NEUTRAL]\n- **Rationale**: [1-2 sentences]\n- **Concerns**: [if any]\n- **Conditions**: [what \
             would change the position]\n```\n\nThen conclude:\n\n### Consensus Summary\n\n",
        );
        let _ = write!(
            text,
            "- **Support count**: X/{}\n- **Key concerns**: [the main ones]\n- **Recommendation**: [PROCEED / DEFER / \
             REJECT]\n",
            self.personas.len()
        );
    }

    fn discussion(&self, text: &mut String) {
        let Self {
            facilitator,
            rounds,
            threshold,
            ..
        } = self;
        let _ = write!(
            text,
            "**Facilitator**: {facilitator}\n**Max rounds**: {rounds}\n**Consensus threshold**: {threshold}%\n\n\
             ### Round 1: Initial Positions\n\n"
        );
        for persona in &self.personas {
            let _ = writeln!(
                text,
                "- **{persona}**: [SUPPORT/OPPOSE/NEUTRAL] + rationale"
            );
        }
        let _ = write!(
            text,
            "\nAfter each round {facilitator} says what is agreed and what is open, and whether another round is \
             needed: at most {rounds}, and none once {threshold}% agree.\n\n### Final Summary (by {facilitator})\n\n\
             - **Consensus**: [YES / NO / PARTIAL]\n- **Rounds used**: X/{rounds}\n- **Final recommendation**: \
             [PROCEED / DEFER / REJECT]\n- **Key resolutions**: [list]\n- **Unresolved concerns**: [list, if any]\n"
        );
    }
}

/// What describes personas here; nothing if the agent has no such knowledge.
pub(super) async fn definitions(door: &AgentDoor) -> Result<String, Refusal> {
    let knowledge = &door.agent.handles.knowledge;
    match knowledge.entry(DEFINITIONS.parse()?).await {
        Ok((_, text)) => Ok(text),
        Err(KnowledgeError::NotFound { .. }) => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

/// The first lines below the heading of a persona; letter case does not matter.
fn described(definitions: &str, persona: &str) -> Option<String> {
    let mut lines = definitions.lines().map(str::trim_end);
    lines.find(|line| {
        let heading = line.strip_prefix("### ").map(str::trim);
        heading.is_some_and(|heading| heading.to_lowercase() == persona.trim().to_lowercase())
    })?;
    let lines = lines.take_while(|line| !line.starts_with('#') && !line.starts_with("---"));
    let lines = lines.filter(|line| !line.is_empty()).take(LINES_SHOWN);
    let shown: Vec<String> = lines
        .map(|line| super::text::start(line, LINE_MAX))
        .collect();
    Some(shown.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persona_is_what_stands_below_its_heading() {
        let text = "# All\n\n### Skeptic\n\n- Role: doubts\n- Focus: proof\n\n### kairos\n- Role: x\n---\n### none\n";
        assert_eq!(
            described(text, "skeptic").as_deref(),
            Some("- Role: doubts\n- Focus: proof")
        );
        assert_eq!(described(text, "kairos").as_deref(), Some("- Role: x"));
        assert_eq!(described(text, "none").as_deref(), Some(""));
        assert_eq!(described(text, "radical"), None);
    }

    #[test]
    fn tokens_are_estimated_as_by_the_reference() {
        let of = |mode, count| {
            let personas = Some(vec!["a".to_owned(); count]);
            Assembly::new(Some(mode), personas, None, Some(2), None).map(|all| all.tokens())
        };
        assert_eq!(of(Mode::Oneshot, 3).unwrap(), 1_400);
        assert_eq!(
            of(Mode::Discussion, 3).unwrap(),
            500 + 300 * 3 * 2 + 200 * 2
        );
    }

    #[test]
    fn figures_and_names_have_bounds() {
        let few = |personas: &[&str], rounds, threshold| {
            let personas = personas.iter().map(|name| (*name).to_owned()).collect();
            Assembly::new(None, Some(personas), None, rounds, threshold).is_ok()
        };
        assert!(few(&[], None, None) && few(&["a b"], Some(10), Some(1.0)));
        assert!(!few(&["a\n## b"], None, None) && !few(&[""], None, None));
        assert!(!few(&["a"; 11], None, None));
        assert!(!few(&["a"], Some(0), None) && !few(&["a"], Some(11), None));
        assert!(!few(&["a"], None, Some(1.1)) && !few(&["a"], None, Some(f64::NAN)));
    }
}
