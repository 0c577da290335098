//! Texts, images, prompts, resources and a skill, as the suite looks for them.

use rmcp::model::{
    ContentBlock, DIRECTORY_MIME_TYPE, Prompt, PromptArgument, PromptMessage, Resource,
    ResourceContents, ResourceTemplate, Role, Skill, SkillFrontmatter, SkillResource,
    SkillResources,
};
use serde_json::json;

/// One pixel, red.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// A RIFF header and no sound.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

const TEXT: &str = "test://static-text";
const BINARY: &str = "test://static-binary";
const WATCHED: &str = "test://watched-resource";
const TEMPLATE: &str = "test://template/{id}/data";

/// The directory of the one skill.
const SKILL: &str = "skill://fixture/greeting";
const SKILL_NAME: &str = "greeting";
const SKILL_ABOUT: &str = "How to greet whoever runs the suite";
const SKILL_TEXT: &str = "---\nname: greeting\ndescription: How to greet whoever runs the suite\n---\n\nSay hello, see references/words.md.\n";
const WORDS: &str = "# Words\n\nHello, good day.\n";

pub(crate) fn image() -> ContentBlock {
    ContentBlock::image(PNG, "image/png")
}

pub(crate) fn audio() -> ContentBlock {
    ContentBlock::audio(WAV, "audio/wav")
}

pub(crate) fn embedded(uri: &str, mime: &str, text: &str) -> ContentBlock {
    ContentBlock::resource(ResourceContents::text(text, uri).with_mime_type(mime))
}

/// What can be read by name and is listed.
pub(crate) fn resources() -> Vec<Resource> {
    let resource = |uri: &str, name: &str, about: &str, mime: &str| {
        Resource::new(uri, name)
            .with_description(about)
            .with_mime_type(mime)
    };
    vec![
        resource(
            &format!("{SKILL}/SKILL.md"),
            SKILL_NAME,
            SKILL_ABOUT,
            "text/markdown",
        ),
        resource(BINARY, "static-binary", "An image", "image/png"),
        resource(TEXT, "static-text", "A text", "text/plain"),
        resource(WATCHED, "watched", "Can be subscribed to", "text/plain"),
    ]
}

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    let template = ResourceTemplate::new(TEMPLATE, "data")
        .with_description("The data of an id")
        .with_mime_type("application/json");
    vec![template]
}

/// Reads one by its name, if there is such.
pub(crate) fn read(uri: &str) -> Option<ResourceContents> {
    let text = |text: &str, mime: &str| ResourceContents::text(text, uri).with_mime_type(mime);
    if let Some(path) = uri.strip_prefix(SKILL) {
        let (_, content) = files().into_iter().find(|(file, _)| *file == path)?;
        return Some(text(content, "text/markdown"));
    }
    if let Some(id) = uri
        .strip_prefix("test://template/")
        .and_then(|rest| rest.strip_suffix("/data"))
    {
        let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
        return Some(text(&data.to_string(), "application/json"));
    }
    Some(match uri {
        TEXT => text(
            "This is the content of the static text resource.",
            "text/plain",
        ),
        WATCHED => text("Nothing changes here.", "text/plain"),
        BINARY => ResourceContents::blob(PNG, uri).with_mime_type("image/png"),
        _ => return None,
    })
}

/// The files of the skill below its directory.
fn files() -> [(&'static str, &'static str); 2] {
    [("/SKILL.md", SKILL_TEXT), ("/references/words.md", WORDS)]
}

pub(crate) fn skill() -> Skill {
    let files = files()
        .into_iter()
        .map(|(path, text)| SkillResource::from_bytes(format!("{SKILL}{path}"), text.as_bytes()));
    Skill::new(
        format!("{SKILL}/SKILL.md"),
        SkillFrontmatter::new(SKILL_NAME, SKILL_ABOUT),
        SkillResources::Files(files.collect()),
    )
}

/// What lies directly in a directory of the skill, if it is one.
pub(crate) fn directory(uri: &str) -> Option<Vec<Resource>> {
    let file = |uri: String, name: &str| Resource::new(uri, name).with_mime_type("text/markdown");
    match uri.trim_end_matches('/').strip_prefix(SKILL)? {
        "" => Some(vec![
            file(format!("{SKILL}/SKILL.md"), SKILL_NAME),
            Resource::new(format!("{SKILL}/references"), "references")
                .with_mime_type(DIRECTORY_MIME_TYPE),
        ]),
        "/references" => Some(vec![file(
            format!("{SKILL}/references/words.md"),
            "words.md",
        )]),
        _ => None,
    }
}

pub(crate) fn prompts() -> Vec<Prompt> {
    let prompt = |name: &str, about: &str, arguments: &[(&str, &str)]| {
        let arguments: Vec<_> = arguments
            .iter()
            .map(|(name, about)| {
                PromptArgument::new(*name)
                    .with_description(*about)
                    .with_required(true)
            })
            .collect();
        Prompt::new(name, Some(about), Some(arguments))
    };
    vec![
        prompt("test_simple_prompt", "A prompt without arguments", &[]),
        prompt(
            "test_prompt_with_arguments",
            "A prompt with two arguments",
            &[("arg1", "The first"), ("arg2", "The second")],
        ),
        prompt(
            "test_prompt_with_embedded_resource",
            "A prompt that holds a resource",
            &[("resourceUri", "What is embedded")],
        ),
        prompt(
            "test_prompt_with_image",
            "A prompt that holds an image",
            &[],
        ),
        prompt(
            crate::rounds::PROMPT,
            "A prompt that asks the user first",
            &[],
        ),
    ]
}

/// The messages of a prompt that needs no answer of a user.
pub(crate) fn messages(
    name: &str,
    argument: impl Fn(&str) -> String,
) -> Option<Vec<PromptMessage>> {
    let user = |content: ContentBlock| PromptMessage::new(Role::User, content);
    let text = |text: String| user(ContentBlock::text(text));
    let messages = match name {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.".to_owned())],
        "test_prompt_with_arguments" => vec![text(format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            argument("arg1"),
            argument("arg2")
        ))],
        "test_prompt_with_embedded_resource" => vec![
            user(embedded(
                &argument("resourceUri"),
                "text/plain",
                "Embedded resource content for testing.",
            )),
            text("Please process the embedded resource above.".to_owned()),
        ],
        "test_prompt_with_image" => vec![
            user(image()),
            text("Please analyze the image above.".to_owned()),
        ],
        _ => return None,
    };
    Some(messages)
}
