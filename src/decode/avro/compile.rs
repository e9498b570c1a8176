//! From the JSON of a schema to its nodes, in one pass that also writes the parsing canonical form.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{AvroKind, AvroNode, AvroSchema, FieldStep, NodeId, decimal, fingerprint};

/// See [`AvroSchema::parse`].
pub(super) fn compile(
    text: &str,
    references: &[(&str, &str)],
    wanted: &dyn Fn(&str) -> bool,
) -> Result<AvroSchema, String> {
    let mut compiler = SchemaCompiler {
        wanted,
        nodes: Vec::new(),
        names: HashMap::new(),
        fields: HashMap::new(),
        canonical: String::new(),
    };
    for (name, text) in references {
        let compiled = compiler.text(text);
        compiled.map_err(|fault| format!("in the referenced schema {name:?}: {fault}"))?;
    }
    compiler.canonical.clear();
    let root = compiler.text(text)?;
    Ok(AvroSchema {
        root,
        name: compiler.describe(root),
        fields: compiler.fields_of(root),
        fingerprint: fingerprint::crc64(&compiler.canonical),
        nodes: compiler.nodes,
    })
}

struct SchemaCompiler<'w> {
    wanted: &'w dyn Fn(&str) -> bool,
    nodes: Vec<AvroNode>,
    /// Named types by their full name.
    names: HashMap<String, NodeId>,
    /// The names of the fields of each record.
    fields: HashMap<NodeId, Vec<String>>,
    /// The parsing canonical form so far.
    canonical: String,
}

impl SchemaCompiler<'_> {
    fn text(&mut self, text: &str) -> Result<NodeId, String> {
        // The reader of JSON bounds how deep the schema is, and so how deep this recursion is.
        let schema: Value = serde_json::from_str(text)
            .map_err(|error| format!("the schema is not JSON: {error}"))?;
        self.schema(&schema, "")
    }

    fn push(&mut self, kind: AvroKind, size: Option<usize>) -> Result<NodeId, String> {
        let id = NodeId::try_from(self.nodes.len()).map_err(|_| "the schema has too many types")?;
        self.nodes.push(AvroNode { kind, size });
        Ok(id)
    }

    fn size(&self, id: NodeId) -> Option<usize> {
        self.nodes.get(id as usize)?.size
    }

    fn write(&mut self, text: &str) {
        self.canonical.push_str(text);
    }

    fn write_quoted(&mut self, text: &str) {
        self.canonical.push_str(&Value::from(text).to_string());
    }

    fn schema(&mut self, schema: &Value, namespace: &str) -> Result<NodeId, String> {
        match schema {
            Value::String(name) => self.by_name(name, namespace, None),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => match object.get("type") {
                Some(Value::String(name)) => self.by_type(name, object, namespace),
                Some(inner) => self.schema(inner, namespace),
                None => Err("an object of the schema has no \"type\"".to_owned()),
            },
            other => Err(format!("{other} is no type")),
        }
    }

    /// An object with a type.
    fn by_type(
        &mut self,
        name: &str,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<NodeId, String> {
        match name {
            "record" | "error" => self.record(object, namespace),
            "enum" => self.symbols(object, namespace),
            "fixed" => self.fixed(object, namespace),
            "array" => self.container("array", "items", object, namespace, AvroKind::Array),
            "map" => self.container("map", "values", object, namespace, AvroKind::Map),
            name => self.by_name(name, namespace, Some(object)),
        }
    }

    /// A primitive type, with the attributes of `object`, or the name of another.
    fn by_name(
        &mut self,
        name: &str,
        namespace: &str,
        object: Option<&Map<String, Value>>,
    ) -> Result<NodeId, String> {
        let (kind, size) = match name {
            "null" => (AvroKind::Null, Some(0)),
            "boolean" => (AvroKind::Boolean, Some(1)),
            "int" => (AvroKind::Int, None),
            "long" => (AvroKind::Long, None),
            "float" => (AvroKind::Float, Some(4)),
            "double" => (AvroKind::Double, Some(8)),
            "bytes" => match object.and_then(decimal_divisor) {
                Some(divisor) => (AvroKind::Decimal(divisor), None),
                None => (AvroKind::Bytes, None),
            },
            "string" => (AvroKind::Text, None),
            name => return self.named(name, namespace),
        };
        self.write_quoted(name);
        self.push(kind, size)
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<NodeId, String> {
        let full = full_name(name, namespace);
        // As Java does: a name without a namespace is looked for outside of namespaces too.
        let found = self.names.get_key_value(&full);
        let found = found.or_else(|| self.names.get_key_value(name));
        let Some((full, &id)) = found else {
            return Err(format!("the type {full:?} is nowhere defined"));
        };
        let full = full.clone();
        self.write_quoted(&full);
        Ok(id)
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<NodeId, String> {
        if branches.is_empty() {
            return Err("a union has no branches".to_owned());
        }
        let mut ids = Vec::with_capacity(branches.len());
        for (index, branch) in branches.iter().enumerate() {
            self.write(if index == 0 { "[" } else { "," });
            let id = self.schema(branch, namespace)?;
            let node = self.nodes.get(id as usize);
            if matches!(node.map(|node| &node.kind), Some(AvroKind::Union(_))) {
                return Err("a union is the branch of a union".to_owned());
            }
            ids.push(id);
        }
        self.write("]");
        self.push(AvroKind::Union(ids.into()), None)
    }

    fn container(
        &mut self,
        what: &str,
        attribute: &str,
        object: &Map<String, Value>,
        namespace: &str,
        kind: fn(NodeId) -> AvroKind,
    ) -> Result<NodeId, String> {
        let Some(inner) = object.get(attribute) else {
            return Err(format!("an {what:?} has no {attribute:?}"));
        };
        self.write(&format!("{{\"type\":\"{what}\",\"{attribute}\":"));
        let inner = self.schema(inner, namespace)?;
        self.write("}");
        self.push(kind(inner), None)
    }

    /// Adds a named type, of which more follows, and writes the beginning of its canonical form.
    fn define(
        &mut self,
        what: &str,
        object: &Map<String, Value>,
        namespace: &str,
        kind: AvroKind,
        size: Option<usize>,
    ) -> Result<(NodeId, String), String> {
        let Some(name) = object.get("name").and_then(Value::as_str) else {
            return Err(format!("a type {what:?} has no \"name\""));
        };
        let namespace = match object.get("namespace").and_then(Value::as_str) {
            Some(namespace) => namespace,
            None => namespace,
        };
        let full = full_name(name, namespace);
        let id = self.push(kind, size)?;
        if self.names.insert(full.clone(), id).is_some() {
            return Err(format!("the type {full:?} is defined twice"));
        }
        self.write("{\"name\":");
        self.write_quoted(&full);
        self.write(&format!(",\"type\":\"{what}\""));
        Ok((id, full))
    }

    fn symbols(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<NodeId, String> {
        let symbols = object.get("symbols").and_then(Value::as_array);
        let symbols = symbols.ok_or("an \"enum\" has no \"symbols\"")?;
        let texts: Option<Box<[Box<str>]>> = symbols
            .iter()
            .map(|symbol| symbol.as_str().map(Into::into))
            .collect();
        let texts = texts.ok_or("a symbol of an \"enum\" is not text")?;
        let kind = AvroKind::Enum(texts);
        let (id, _) = self.define("enum", object, namespace, kind, None)?;
        let symbols = Value::from(symbols.as_slice()).to_string();
        self.write(&format!(",\"symbols\":{symbols}}}"));
        Ok(id)
    }

    fn fixed(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<NodeId, String> {
        let size = object.get("size").and_then(Value::as_u64);
        let size = size.and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or("a type \"fixed\" has no \"size\" in bytes")?;
        let kind = match (decimal_divisor(object), logical_type(object)) {
            (Some(divisor), _) => AvroKind::FixedDecimal(size, divisor),
            (None, Some("uuid")) if size == 16 => AvroKind::Uuid,
            _ => AvroKind::Fixed(size),
        };
        let (id, _) = self.define("fixed", object, namespace, kind, Some(size))?;
        self.write(&format!(",\"size\":{size}}}"));
        Ok(id)
    }

    fn record(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<NodeId, String> {
        // A record that contains itself finds this node, whose size is not known.
        let kind = AvroKind::Record(Box::default());
        let (id, full) = self.define("record", object, namespace, kind, None)?;
        let inner = full.rsplit_once('.').map_or("", |(namespace, _)| namespace);
        let fields = object.get("fields").and_then(Value::as_array);
        let fields = fields.ok_or_else(|| format!("the record {full:?} has no \"fields\""))?;
        let names: Option<Vec<&str>> = fields
            .iter()
            .map(|field| field.get("name")?.as_str())
            .collect();
        let names = names.ok_or_else(|| format!("a field of {full:?} has no \"name\""))?;
        let mut taken: HashSet<&str> = names.iter().copied().collect();
        if taken.len() < names.len() {
            return Err(format!("the record {full:?} has two fields of one name"));
        }
        self.write(",\"fields\":[");
        let mut steps = Vec::new();
        let mut size = Some(0);
        for (index, (field, name)) in fields.iter().zip(&names).enumerate() {
            self.write(if index == 0 {
                "{\"name\":"
            } else {
                ",{\"name\":"
            });
            self.write_quoted(name);
            self.write(",\"type\":");
            let located = |fault| format!("field {name:?} of {full:?}: {fault}");
            let schema = field.get("type").ok_or("it has no \"type\"".to_owned());
            let node = schema
                .and_then(|schema| self.schema(schema, inner))
                .map_err(located)?;
            self.write("}");
            let node_size = self.size(node);
            size = add(size, node_size);
            let visible = self.visible_name(field, name, &taken);
            if let Some(alias) = visible.filter(|visible| visible != name) {
                taken.insert(alias);
            }
            push_step(&mut steps, name, visible, node, node_size);
        }
        self.write("]}");
        self.fields
            .insert(id, names.iter().map(|&name| name.to_owned()).collect());
        if let Some(node) = self.nodes.get_mut(id as usize) {
            *node = AvroNode {
                kind: AvroKind::Record(steps.into()),
                size,
            };
        }
        Ok(id)
    }

    /// The name under which a visitor gets a field: the field's own or one of its aliases that no
    /// other field has `taken`, whichever is wanted first.
    fn visible_name<'f>(
        &self,
        field: &'f Value,
        name: &'f str,
        taken: &HashSet<&str>,
    ) -> Option<&'f str> {
        if (self.wanted)(name) {
            return Some(name);
        }
        let aliases = field.get("aliases")?.as_array()?;
        let mut aliases = aliases.iter().filter_map(Value::as_str);
        aliases.find(|alias| (self.wanted)(alias) && !taken.contains(alias))
    }

    /// The name of a type, for messages.
    fn describe(&self, id: NodeId) -> String {
        if let Some((name, _)) = self.names.iter().find(|(_, named)| **named == id) {
            return name.clone();
        }
        let kind = self.nodes.get(id as usize).map(|node| &node.kind);
        if let Some(AvroKind::Union(branches)) = kind {
            let branches: Vec<String> = branches.iter().map(|&id| self.describe(id)).collect();
            return format!("union of {}", branches.join(", "));
        }
        let name = match kind {
            Some(AvroKind::Array(_)) => "array",
            Some(AvroKind::Map(_)) => "map",
            Some(AvroKind::Boolean) => "boolean",
            Some(AvroKind::Int) => "int",
            Some(AvroKind::Long) => "long",
            Some(AvroKind::Float) => "float",
            Some(AvroKind::Double) => "double",
            Some(AvroKind::Bytes | AvroKind::Decimal(_)) => "bytes",
            Some(AvroKind::Text) => "string",
            _ => "null",
        };
        name.to_owned()
    }

    fn fields_of(&self, id: NodeId) -> Vec<String> {
        let node = self.nodes.get(id as usize).map(|node| &node.kind);
        let branches = match node {
            Some(AvroKind::Union(branches)) => branches.to_vec(),
            _ => vec![id],
        };
        let records = branches.iter().filter_map(|id| self.fields.get(id));
        records.flatten().cloned().collect()
    }
}

fn add(size: Option<usize>, more: Option<usize>) -> Option<usize> {
    size?.checked_add(more?)
}

/// Adds what to do with a field; what is skipped joins what was skipped before it.
fn push_step(
    steps: &mut Vec<FieldStep>,
    name: &str,
    visible: Option<&str>,
    node: NodeId,
    size: Option<usize>,
) {
    if let Some(visible) = visible {
        steps.push(FieldStep::Visit(visible.into(), node));
        return;
    }
    let Some(size) = size else {
        steps.push(FieldStep::Skip(name.into(), node));
        return;
    };
    if let Some(FieldStep::SkipBytes(_, before)) = steps.last_mut()
        && let Some(sum) = before.checked_add(size)
    {
        *before = sum;
        return;
    }
    steps.push(FieldStep::SkipBytes(name.into(), size));
}

fn full_name(name: &str, namespace: &str) -> String {
    if let Some(name) = name.strip_prefix('.').filter(|name| !name.contains('.')) {
        return name.to_owned();
    }
    match name.contains('.') || namespace.is_empty() {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

fn logical_type(object: &Map<String, Value>) -> Option<&str> {
    object.get("logicalType")?.as_str()
}

/// Of a decimal. As the specification says, one that is not valid is no decimal.
fn decimal_divisor(object: &Map<String, Value>) -> Option<f64> {
    if logical_type(object) != Some("decimal") {
        return None;
    }
    let precision = object.get("precision")?.as_u64()?;
    let scale = match object.get("scale") {
        Some(scale) => scale.as_u64()?,
        None => 0,
    };
    let is_valid = precision > 0 && scale <= precision;
    is_valid.then(|| decimal::divisor(u32::try_from(scale).unwrap_or(u32::MAX)))
}
