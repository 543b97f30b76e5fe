//! Rules that look at the syntax tree of a file.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::tidy::{Finding, Role};

/// Lines that a function may have, from its signature to its closing brace.
const MAX_FUNCTION: usize = 100;

/// Programs that interpret a string as commands.
const SHELLS: [&str; 5] = ["sh", "bash", "dash", "zsh", "busybox"];

/// Fields that deserve a type of their own, as a whole name or as its last word.
const TYPED_FIELDS: [&str; 5] = ["digest", "path", "name", "size", "backend"];

/// Functions of `std::env` that look at what surrounds the process.
const ENVIRONMENT: [&str; 8] =
    ["var", "var_os", "vars", "vars_os", "home_dir", "set_var", "remove_var", "current_dir"];

/// Macros that print.
const PRINTING: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];

/// Lines above an `unsafe` in which its SAFETY comment may begin.
const SAFETY_REACH: usize = 12;

/// Checks the syntax of a file; a file that does not parse is left to the compiler.
pub fn check(path: &str, text: &str, role: Role) -> Vec<Finding> {
    let Ok(file) = syn::parse_file(text) else {
        return Vec::new();
    };
    let mut visitor = Visitor {
        path,
        lines: text.lines().collect(),
        library: role.library,
        test: role.test || file.attrs.iter().any(is_test),
        findings: Vec::new(),
    };
    visitor.visit_file(&file);
    visitor.findings
}

struct Visitor<'a> {
    path: &'a str,
    lines: Vec<&'a str>,
    library: bool,
    /// Inside tests.
    test: bool,
    findings: Vec<Finding>,
}

impl Visitor<'_> {
    fn add(&mut self, span: Span, rule: &'static str, message: String) {
        let line = span.start().line;
        self.findings.push(Finding { path: self.path.to_owned(), line, rule, message });
    }

    /// Visits something that may be marked as a test.
    fn within(&mut self, attributes: &[syn::Attribute], visit: impl FnOnce(&mut Self)) {
        let outer = self.test;
        self.test = outer || attributes.iter().any(is_test);
        visit(self);
        self.test = outer;
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let count = block.brace_token.span.close().end().line + 1 - first;
        if count > MAX_FUNCTION {
            let message = format!("function {} has {count} lines, at most {MAX_FUNCTION}", signature.ident);
            self.add(signature.ident.span(), "function-length", message);
        }
    }

    fn safety(&mut self, span: Span) {
        let end = span.start().line;
        let above = &self.lines[end.saturating_sub(SAFETY_REACH + 1)..end.min(self.lines.len())];
        if !above.iter().any(|line| line.contains("SAFETY:")) {
            self.add(span, "safety", "unsafe without a SAFETY comment".to_owned());
        }
    }

    fn field(&mut self, field: &syn::Field) {
        let (Some(ident), syn::Visibility::Public(_)) = (&field.ident, &field.vis) else { return };
        let name = ident.to_string();
        let noun = name.rsplit('_').next().unwrap_or(&name);
        if TYPED_FIELDS.contains(&noun) && is_string(&field.ty) {
            let message = format!("pub {name}: String; parse it once and keep the type");
            self.add(ident.span(), "string-field", message);
        }
    }
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.within(&item.attrs, |this| visit::visit_item_mod(this, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        self.within(&item.attrs, |this| visit::visit_item_fn(this, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        self.within(&item.attrs, |this| visit::visit_impl_item_fn(this, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(keyword) = &item.unsafety {
            self.safety(keyword.span);
        }
        self.within(&item.attrs, |this| visit::visit_item_impl(this, item));
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        // The protocol has no dependencies, so it has no types of names either; it checks them in `validate`.
        if self.library && !self.test && !self.path.starts_with("crates/mvm-wire/") {
            item.fields.iter().for_each(|field| self.field(field));
        }
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        if item.ident.to_string().ends_with("Error") {
            for variant in item.variants.iter().filter(|variant| variant.ident == "Other") {
                if variant.fields.iter().any(|field| is_string(&field.ty)) {
                    let message = "Other(String) says nothing; name the act that failed".to_owned();
                    self.add(variant.ident.span(), "other-string", message);
                }
            }
        }
        visit::visit_item_enum(self, item);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.safety(block.unsafe_token.span);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func {
            let segments: Vec<String> = function.path.segments.iter().map(|s| s.ident.to_string()).collect();
            let ends = |tail: &[&str]| segments.iter().rev().zip(tail.iter().rev()).all(|(a, b)| a == b);
            if segments.len() >= 2
                && ends(&["Command", "new"])
                && let Some(shell) = call.args.first().and_then(shell)
            {
                let message = format!("{shell} interprets a string; pass an argument vector");
                self.add(call.span(), "shell", message);
            }
            let elsewhere =
                self.library && !self.test && !self.path.starts_with("crates/mvm-launch/src/exec");
            if elsewhere && segments.len() >= 2 && ends(&["Command", "new"]) {
                let message = "programs are started by mvm_launch::exec only".to_owned();
                self.add(call.span(), "spawn", message);
            }
            let environment = segments.len() >= 2
                && segments[segments.len() - 2] == "env"
                && ENVIRONMENT.contains(&segments[segments.len() - 1].as_str());
            if self.library && !self.test && environment {
                let message =
                    format!("a library reads env::{}; take it as a parameter", segments[segments.len() - 1]);
                self.add(call.span(), "environment", message);
            }
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        let called = local.init.as_ref().is_some_and(|init| {
            matches!(*init.expr, syn::Expr::Call(_) | syn::Expr::MethodCall(_) | syn::Expr::Await(_))
        });
        if !self.test && matches!(local.pat, syn::Pat::Wild(_)) && called {
            let message =
                "let _ = hides what a call returned; handle it, or drop() it with the reason".to_owned();
            self.add(local.let_token.span, "let-underscore", message);
        }
        visit::visit_local(self, local);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let name = call.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if name == "todo" || name == "unimplemented" {
            self.add(call.span(), "unfinished", format!("{name}!"));
        }
        if self.library && !self.test && PRINTING.contains(&name.as_str()) {
            self.add(call.span(), "print", format!("a library prints with {name}!"));
        }
        visit::visit_macro(self, call);
    }
}

/// Tells whether an attribute marks tests: `#[test]`, `#[cfg(test)]`, `#![cfg(test)]`.
fn is_test(attribute: &syn::Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
}

/// Tells whether a type is `String` or `Option<String>`.
fn is_string(ty: &syn::Type) -> bool {
    let syn::Type::Path(path) = ty else { return false };
    let Some(last) = path.path.segments.last() else { return false };
    if last.ident == "String" {
        return true;
    }
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else { return false };
    last.ident == "Option"
        && arguments.args.iter().any(|a| matches!(a, syn::GenericArgument::Type(inner) if is_string(inner)))
}

/// Returns the shell that a literal argument names, with or without directories.
fn shell(argument: &syn::Expr) -> Option<String> {
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = argument else { return None };
    let value = text.value();
    let name = value.rsplit('/').next()?;
    SHELLS.contains(&name).then(|| name.to_owned())
}
