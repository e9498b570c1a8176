//! What ends a filter that would not end, whoever wrote it.
//!
//! jq has no bounds. So each function of a filter, each step of a `reduce` and each value of `..` first looks
//! whether there is time, stack and memory left (`_in_time`), and a product whether its result has a usable
//! size (`_times`). The rest of jq cannot grow by more than what is in the filter or in the record.

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::native::{bome, run, v};
use jaq_core::ops::Math;
use jaq_core::path::{Part, Path};
use jaq_json::{Num, Val};
use tikv_jemalloc_ctl::thread;

use super::{Error, Fun};
use crate::decode::worker::STACK;

/// How long a filter may take for one value: less than what its thread may.
const TIME: Duration = Duration::from_millis(400);
/// What the calls of a filter may need of the stack; the rest is for what it calls and for deep values.
const DEPTH: usize = STACK / 4;
/// What a filter may allocate beyond what it frees, in bytes.
const MEMORY: u64 = 256 << 20;
/// Bytes of a product at most.
const PRODUCT: u64 = 16 << 20;

/// What repeats in jq, as jaq-core defines it, but with an end; and products.
pub(super) const DEFS: &str = "
def empty: {}[] as $_ | .;
def repeat(f): def rec: _in_time as $_ | f, rec; rec;
def recurse(f): def rec: _in_time as $_ | ., (f | rec); rec;
def recurse: recurse(.[]?);
def recurse(f; cond): recurse(f | if cond then . else empty end);
def _descend: recurse(.[]?);
def while(cond; update):
  def rec: _in_time as $_ | if cond then ., (update | rec) else empty end; rec;
def until(cond; update):
  def rec: _in_time as $_ | if cond then . else update | rec end; rec;
def range($from; $to; $by): $from
  | if $by > 0 then while(. < $to; . + $by)
    elif $by < 0 then while(. > $to; . + $by)
    else while(. != $to; . + $by) end;
def range($from; $to): range($from; $to; 1);
def range($to): range(0; $to; 1);
def _times(l; r): l as $l | r as $r | ([$l, $r] | _fits) as $_ | $l * $r;
";

thread_local! {
    static RUN: Cell<Option<Run>> = const { Cell::new(None) };
}

/// A filter that runs on this thread.
#[derive(Clone, Copy)]
struct Run {
    end: Instant,
    /// Where the stack was when it began.
    stack: usize,
    /// Bytes that the thread had when it began.
    memory: u64,
    /// What it ran out of. A filter may catch errors, but not this one.
    exceeded: Option<&'static str>,
}

/// Begins a run on this thread.
pub(super) fn begin() {
    let now = Instant::now();
    RUN.set(Some(Run {
        end: now.checked_add(TIME).unwrap_or(now),
        stack: place_on_stack(),
        memory: memory(),
        exceeded: None,
    }));
}

/// Whether the run stayed within its bounds so far.
///
/// # Errors
/// What it has too much of.
pub(super) fn bounded() -> Result<(), &'static str> {
    match RUN.get().and_then(|run| run.exceeded) {
        Some(exceeded) => Err(exceeded),
        None => Ok(()),
    }
}

/// The functions that [`DEFS`] and a guarded filter call.
pub(super) fn funs() -> [Fun; 2] {
    [
        run(("_in_time", v(0), |(_, value)| {
            bome(exceeded_by().map_or(Ok(value), exceeded))
        })),
        run(("_fits", v(0), |(_, value)| {
            let fits = product(&value).is_none_or(|bytes| bytes <= PRODUCT);
            bome(if fits {
                Ok(value)
            } else {
                exceeded("it needs too much memory")
            })
        })),
    ]
}

fn exceeded(what: &'static str) -> Result<Val, Error> {
    RUN.set(RUN.get().map(|run| Run {
        exceeded: Some(what),
        ..run
    }));
    Err(Error::str(what))
}

fn exceeded_by() -> Option<&'static str> {
    let run = RUN.get()?;
    if run.exceeded.is_some() {
        run.exceeded
    } else if run.stack.abs_diff(place_on_stack()) > DEPTH {
        Some("its functions call themselves too often")
    } else if Instant::now() >= run.end {
        Some("a loop takes too long")
    } else if memory() > run.memory.saturating_add(MEMORY) {
        Some("it needs too much memory")
    } else {
        None
    }
}

fn place_on_stack() -> usize {
    let here = 0u8;
    std::ptr::from_ref(black_box(&here)) as usize
}

/// Bytes that this thread allocated and did not free.
fn memory() -> u64 {
    thread_local! {
        // jemalloc has them at a place of each thread, which costs a call to find.
        static COUNTERS: Option<(
            thread::ThreadLocal<u64>,
            thread::ThreadLocal<u64>,
        )> = thread::allocatedp::read().ok().zip(thread::deallocatedp::read().ok());
    }
    COUNTERS.with(|counters| {
        let of = |(allocated, freed): &(thread::ThreadLocal<u64>, thread::ThreadLocal<u64>)| {
            allocated.get().saturating_sub(freed.get())
        };
        counters.as_ref().map_or(0, of)
    })
}

/// How many bytes the product of two values has; `None` where there is none that grows.
fn product(pair: &Val) -> Option<u64> {
    let Val::Arr(pair) = pair else { return None };
    let bytes = |number: &Num| match number {
        Num::BigInt(number) => number.bits() / 8,
        Num::Int(_) | Num::Float(_) | Num::Dec(_) => 8,
    };
    match &pair[..] {
        [Val::Num(left), Val::Num(right)] => Some(bytes(left).saturating_add(bytes(right))),
        [Val::TStr(text) | Val::BStr(text), Val::Num(times)]
        | [Val::Num(times), Val::TStr(text) | Val::BStr(text)] => {
            let times = match times {
                Num::Int(times) => u64::try_from(*times).unwrap_or(0),
                Num::BigInt(_) => u64::MAX,
                Num::Float(_) | Num::Dec(_) => return None,
            };
            Some(times.saturating_mul(text.len() as u64))
        }
        _ => None,
    }
}

/// A definition whose steps are guarded, but not its own call.
pub(super) fn steps_guarded(def: Def<&str>) -> Def<&str> {
    Def {
        body: guarded(def.body),
        ..def
    }
}

/// A filter with the guards in it.
pub(super) fn guarded<'s>(term: Term<&'s str>) -> Term<&'s str> {
    match term {
        Term::Recurse => Term::Call("_descend", Vec::new()),
        Term::Str(format, parts) => Term::Str(format, parts.into_iter().map(part).collect()),
        Term::Arr(body) => Term::Arr(body.map(boxed)),
        Term::Obj(members) => Term::Obj(
            members
                .into_iter()
                .map(|(key, value)| (guarded(key), value.map(guarded)))
                .collect(),
        ),
        Term::Neg(term) => Term::Neg(boxed(term)),
        Term::BinOp(left, operator, right) => operation(guarded(*left), operator, guarded(*right)),
        Term::Label(name, term) => Term::Label(name, boxed(term)),
        Term::Fold(name, over, names, steps) => {
            let step = |(at, term)| {
                if at == 0 {
                    guarded(term)
                } else {
                    in_time(guarded(term))
                }
            };
            let steps = steps.into_iter().enumerate().map(step).collect();
            Term::Fold(name, boxed(over), pattern(names), steps)
        }
        Term::TryCatch(term, caught) => Term::TryCatch(boxed(term), caught.map(boxed)),
        Term::IfThenElse(cases, other) => Term::IfThenElse(
            cases
                .into_iter()
                .map(|(when, then)| (guarded(when), guarded(then)))
                .collect(),
            other.map(boxed),
        ),
        Term::Def(defs, term) => {
            let def = |def: Def<&'s str>| Def {
                body: in_time(guarded(def.body)),
                ..def
            };
            Term::Def(defs.into_iter().map(def).collect(), boxed(term))
        }
        Term::Call(name, arguments) => {
            Term::Call(name, arguments.into_iter().map(guarded).collect())
        }
        Term::Path(term, path) => {
            let at = |part| match part {
                Part::Index(at) => Part::Index(guarded(at)),
                Part::Range(from, to) => Part::Range(from.map(guarded), to.map(guarded)),
            };
            let parts = path
                .0
                .into_iter()
                .map(|(part, optional)| (at(part), optional));
            Term::Path(boxed(term), Path(parts.collect()))
        }
        Term::Id | Term::Num(_) | Term::Break(_) | Term::Var(_) => term,
    }
}

#[expect(clippy::boxed_local, reason = "a term has its parts in boxes")]
fn boxed(term: Box<Term<&str>>) -> Box<Term<&str>> {
    Box::new(guarded(*term))
}

fn part<'s>(part: StrPart<&'s str, Term<&'s str>>) -> StrPart<&'s str, Term<&'s str>> {
    match part {
        StrPart::Term(term) => StrPart::Term(guarded(term)),
        StrPart::Str(_) | StrPart::Char(_) => part,
    }
}

fn pattern(names: Pattern<&str>) -> Pattern<&str> {
    match names {
        Pattern::Var(_) => names,
        Pattern::Arr(names) => Pattern::Arr(names.into_iter().map(pattern).collect()),
        Pattern::Obj(names) => Pattern::Obj(
            names
                .into_iter()
                .map(|(key, names)| (guarded(key), pattern(names)))
                .collect(),
        ),
    }
}

/// `_in_time as $_ | TERM`: an output that is not used leaves a path as it is, and a tail call one.
fn in_time(term: Term<&str>) -> Term<&str> {
    let call = Term::Call("_in_time", Vec::new());
    piped(call, "$_", term)
}

fn piped<'s>(from: Term<&'s str>, name: &'s str, to: Term<&'s str>) -> Term<&'s str> {
    let pipe = BinaryOp::Pipe(Some(Pattern::Var(name)));
    Term::BinOp(Box::new(from), pipe, Box::new(to))
}

/// An operation of guarded terms.
fn operation<'s>(
    left: Term<&'s str>,
    operator: BinaryOp<&'s str>,
    right: Term<&'s str>,
) -> Term<&'s str> {
    match operator {
        BinaryOp::Math(Math::Mul) => Term::Call("_times", vec![left, right]),
        // `l *= r` is `r as $r | l |= . * $r`.
        BinaryOp::UpdateMath(Math::Mul) => {
            let times = Term::Call("_times", vec![Term::Id, Term::Var("$_by")]);
            let update = Term::BinOp(Box::new(left), BinaryOp::Update, Box::new(times));
            piped(right, "$_by", update)
        }
        BinaryOp::Pipe(Some(names)) => Term::BinOp(
            Box::new(left),
            BinaryOp::Pipe(Some(pattern(names))),
            Box::new(right),
        ),
        other => Term::BinOp(Box::new(left), other, Box::new(right)),
    }
}
