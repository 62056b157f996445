// The verdict of Microsoft's own parser on queries (KQL): reads {"tables": {table: {column: type}}, "queries": {name: text}}
// from standard input, and writes what it has to say of each, by name.
import "@kusto/language-service-next/bridge.min.js";
import "@kusto/language-service-next/Kusto.Language.Bridge.min.js";

const { GlobalState, KustoCode } = globalThis.Kusto.Language;

let input = "";
for await (const chunk of process.stdin) input += chunk;
const { tables, queries } = JSON.parse(input);

// A table is to the parser what has a name and columns.
const known = Object.entries(tables)
  .map(([table, columns]) => `let ${table} = datatable(${Object.entries(columns).map((each) => each.join(":")).join()})[];\n`)
  .join("");

const said = {};
for (const [name, text] of Object.entries(queries)) {
  const found = KustoCode.ParseAndAnalyze(known + text, GlobalState.Default).GetDiagnostics();
  said[name] = Array.from({ length: found.Count }, (_, at) => found.getItem(at)).map(
    ({ Start, Message }) => `line ${text.slice(0, Start - known.length).split("\n").length}: ${Message}`,
  );
}
console.log(JSON.stringify(said));
