//! Variables, in the scopes of the blocks that run, and lambdas, which keep the scope they were made in.

use std::sync::Arc;

use super::machine::{FRAME_BYTES, Machine, Run};
use super::tree::{Block, Name};
use super::value::{LambdaId, Value};

/// What a variable takes, its name aside.
const VARIABLE_BYTES: usize = 48;

/// The variables of a block that runs, or may run again.
#[derive(Debug)]
pub(super) struct Scope {
    parent: Option<usize>,
    variables: Vec<(Name, Value)>,
}

/// A lambda, and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Lambda {
    pub(super) block: Arc<Block>,
    pub(super) scope: usize,
    pub(super) program: usize,
}

impl Machine<'_> {
    pub(super) fn open(&mut self, parent: Option<usize>) -> Run<usize> {
        self.take(FRAME_BYTES)?;
        self.scopes.push(Scope {
            parent,
            variables: Vec::new(),
        });
        Ok(self.scopes.len().saturating_sub(1))
    }

    /// Closes a scope that nothing can see any more: it is the last, and no lambda was made in it.
    pub(super) fn close(&mut self, scope: usize, lambdas: usize) {
        if self.lambdas.len() == lambdas
            && self.scopes.len() == scope.saturating_add(1)
            && let Some(scope) = self.scopes.pop()
        {
            let freed = scope.variables.len().saturating_mul(VARIABLE_BYTES);
            let freed = freed.saturating_add(FRAME_BYTES);
            self.spent.bytes = self.spent.bytes.saturating_sub(freed);
        }
    }

    pub(super) fn lambdas(&self) -> usize {
        self.lambdas.len()
    }

    pub(super) fn lambda(&self, id: LambdaId) -> Option<Lambda> {
        self.lambdas.get(id.0).cloned()
    }

    pub(super) fn in_program<T>(
        &mut self,
        program: usize,
        run: impl FnOnce(&mut Self) -> Run<T>,
    ) -> Run<T> {
        let before = (self.current, self.at);
        self.current = program;
        let done = run(self);
        // An error is told where it was; whoever rescues it goes back.
        if done.is_ok() {
            (self.current, self.at) = before;
        }
        done
    }

    pub(super) fn variable(&self, scope: usize, name: &Name) -> Option<Value> {
        let mut scope = Some(scope);
        while let Some(found) = scope.and_then(|scope| self.scopes.get(scope)) {
            let mut variables = found.variables.iter();
            if let Some((_, value)) = variables.find(|(known, _)| known == name) {
                return Some(*value);
            }
            scope = found.parent;
        }
        None
    }

    /// Sets a variable where it is, or makes it in this scope.
    pub(super) fn assign(&mut self, scope: usize, name: &Name, value: Value) -> Run<()> {
        let mut next = Some(scope);
        while let Some(found) = next.and_then(|scope| self.scopes.get_mut(scope)) {
            let mut variables = found.variables.iter_mut();
            if let Some((_, old)) = variables.find(|(known, _)| known == name) {
                *old = value;
                return Ok(());
            }
            next = found.parent;
        }
        self.define(scope, name, value)
    }

    /// Makes a variable in this scope.
    pub(super) fn define(&mut self, scope: usize, name: &Name, value: Value) -> Run<()> {
        self.take(VARIABLE_BYTES)?;
        if let Some(scope) = self.scopes.get_mut(scope) {
            scope.variables.push((name.clone(), value));
        }
        Ok(())
    }
}
