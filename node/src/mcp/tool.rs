//! What a tool is: a name, who may call it, what it takes and gives, and what it does.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::io;

use futures::future::BoxFuture;
use kairos_place::role::{Action, Role};
use rmcp::ErrorData;
use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, InputRequiredResult, JsonObject, Tool as Told,
    ToolAnnotations,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::call::Call;
use super::schema;

/// A tool of the door `D`.
pub trait Tool<D: ?Sized>: 'static {
    /// Its name.
    const NAME: &'static str;
    /// For people.
    const TITLE: &'static str;
    /// For the model: what it does, and when to use it.
    const ABOUT: &'static str;
    /// What its caller must be allowed to do. A tool with several commands asks again for those that need more.
    const NEEDS: Action;
    /// What it may do to the agent.
    const HINTS: Hints;
    /// What it takes; unknown members are refused.
    type Params: DeserializeOwned + JsonSchema + Send + 'static;
    /// What it gives, beside a text.
    type Output: Serialize + JsonSchema + 'static;

    /// What it gives as the SDK has it.
    fn structured(output: Self::Output) -> serde_json::Result<Value> {
        serde_json::to_value(output)
    }

    /// Does it.
    fn call(
        door: &D,
        call: &Call,
        params: Self::Params,
    ) -> impl Future<Output = Result<Answer<Self::Output>, Refusal>> + Send;
}

/// What a tool may do to the agent and beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hints {
    read_only: bool,
    destructive: bool,
    idempotent: bool,
    open_world: bool,
}

impl Hints {
    /// It changes nothing.
    pub const READ: Self = Self {
        read_only: true,
        destructive: false,
        idempotent: true,
        open_world: false,
    };
    /// It only adds.
    pub const ADD: Self = Self {
        read_only: false,
        destructive: false,
        idempotent: false,
        open_world: false,
    };
    /// It may replace or take away.
    pub const CHANGE: Self = Self {
        read_only: false,
        destructive: true,
        idempotent: false,
        open_world: false,
    };

    /// The same once more changes nothing more.
    pub const fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// It speaks with other agents.
    pub const fn open_world(mut self) -> Self {
        self.open_world = true;
        self
    }

    fn annotations(self) -> ToolAnnotations {
        ToolAnnotations::new()
            .read_only(self.read_only)
            .destructive(self.destructive)
            .idempotent(self.idempotent)
            .open_world(self.open_world)
    }
}

/// What a tool answers: a text for the model, and the same for programs.
#[derive(Debug)]
pub struct Answer<T> {
    /// For the model. Programs of the reference parse some of these.
    pub text: String,
    /// For programs.
    pub data: T,
}

impl<T> Answer<T> {
    /// See the members.
    pub fn new(text: impl Into<String>, data: T) -> Self {
        Self {
            text: text.into(),
            data,
        }
    }
}

/// Why a tool did not do it, or what it needs first.
#[derive(Debug)]
pub enum Refusal {
    /// A sentence that says what to do.
    Said(String),
    /// Something failed.
    Failed(Box<dyn Error + Send + Sync>),
    /// A person has to answer first.
    Asks(Box<InputRequiredResult>),
    /// The request itself breaks the protocol.
    Wrong(ErrorData),
}

impl Refusal {
    /// Says `text`.
    pub fn say(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }

    /// The text for an owner.
    pub(super) fn plain(&self) -> String {
        self.text(Role::Owner)
    }

    /// The text for a caller with `role`. What the machine says about files is for the owner.
    fn text(&self, role: Role) -> String {
        match self {
            Self::Said(text) => text.clone(),
            Self::Failed(error) if role < Role::Owner && names_files(error.as_ref()) => {
                tracing::error!(error = error.as_ref() as &dyn Error, "a tool failed");
                "Error: the node could not read or write its files; its log says more. Ask its owner.".to_owned()
            }
            Self::Failed(error) => format!("Error: {}", causes(error.as_ref())),
            Self::Wrong(error) => format!("Error: {}", error.message),
            Self::Asks(_) => {
                "Error: a person has to answer first, and this client cannot ask one".to_owned()
            }
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// The error and its causes, each said once: many quote their cause themselves.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut told = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        if told.is_empty() {
            told = text;
        } else if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        next = cause.source();
    }
    told
}

/// Whether a failing file is among the causes: such errors may name local paths.
fn names_files(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.is::<io::Error>() {
            return true;
        }
        next = cause.source();
    }
    false
}

type Run<D> =
    for<'a> fn(&'a D, &'a Call, JsonObject) -> BoxFuture<'a, Result<CallToolResponse, Refusal>>;

struct Entry<D> {
    told: Told,
    needs: Action,
    hints: Hints,
    run: Run<D>,
}

/// The tools of a door.
pub struct Toolbox<D> {
    entries: BTreeMap<&'static str, Entry<D>>,
    /// In the order in which they are listed.
    order: Vec<&'static str>,
}

impl<D> Default for Toolbox<D> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            order: Vec::new(),
        }
    }
}

impl<D: Sync + 'static> Toolbox<D> {
    /// Adds `T`. A second tool of a name is not added: the first keeps it.
    #[must_use]
    pub fn with<T: Tool<D>>(mut self) -> Self {
        let told = Told::new(T::NAME, T::ABOUT, schema::of_input::<T::Params>())
            .with_title(T::TITLE)
            .with_raw_output_schema(schema::of_output::<T::Output>())
            .with_annotations(T::HINTS.annotations());
        if self.entries.contains_key(T::NAME) {
            return self;
        }
        let entry = Entry {
            told,
            needs: T::NEEDS,
            hints: T::HINTS,
            run: run::<D, T>,
        };
        self.entries.insert(T::NAME, entry);
        self.order.push(T::NAME);
        self
    }

    /// The tools that `role` may call, in order.
    pub fn list(&self, role: Role) -> impl Iterator<Item = &Told> {
        let of = |name: &&'static str| self.entries.get(*name);
        let entries = self.order.iter().filter_map(of);
        entries
            .filter(move |entry| role.authorize(entry.needs).is_ok())
            .map(|entry| &entry.told)
    }

    /// What is told of a tool.
    pub fn get(&self, name: &str) -> Option<&Told> {
        self.entries.get(name).map(|entry| &entry.told)
    }

    /// What the caller of a tool must be allowed to do.
    pub fn needs(&self, name: &str) -> Option<Action> {
        self.entries.get(name).map(|entry| entry.needs)
    }

    /// Whether there is such a tool and it may change something.
    pub fn changes(&self, name: &str) -> bool {
        let entry = self.entries.get(name);
        entry.is_some_and(|entry| !entry.hints.read_only)
    }

    /// Calls a tool. `None`: there is none of that name.
    pub async fn call(
        &self,
        door: &D,
        call: &Call,
        name: &str,
        arguments: JsonObject,
    ) -> Option<Result<CallToolResponse, ErrorData>> {
        let entry = self.entries.get(name)?;
        let role = call.caller.role;
        let done = match call.caller.may(entry.needs) {
            Ok(()) => (entry.run)(door, call, arguments).await,
            Err(refusal) => Err(refusal),
        };
        Some(match done {
            Ok(response) => Ok(response),
            Err(Refusal::Asks(asks)) => Ok(CallToolResponse::InputRequired(*asks)),
            Err(Refusal::Wrong(error)) => Err(error),
            Err(refusal) => {
                let text = ContentBlock::text(refusal.text(role));
                Ok(CallToolResult::error(vec![text]).into())
            }
        })
    }
}

fn run<'a, D: Sync, T: Tool<D>>(
    door: &'a D,
    call: &'a Call,
    arguments: JsonObject,
) -> BoxFuture<'a, Result<CallToolResponse, Refusal>> {
    Box::pin(async move {
        let params = serde_json::from_value(Value::Object(arguments)).map_err(|error| {
            Refusal::say(format!(
                "Error: {} cannot be called like this: {error}. Its input schema tells what it takes.",
                T::NAME
            ))
        })?;
        let answer = T::call(door, call, params).await?;
        // `CallToolResult::structured` would write the data out as text first, only to be given another one.
        let mut result = CallToolResult::success(vec![ContentBlock::text(answer.text)]);
        result.structured_content = Some(T::structured(answer.data)?);
        Ok(result.into())
    })
}
