import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";

/** The sidebar panel "Examples": one button an operation, which shows it in a tab of its own. */
export function examplesPlugin(examples) {
  function Examples() {
    const { queryEditor, tabs } = useGraphiQL(({ queryEditor, tabs }) => ({ queryEditor, tabs }));
    const { addTab, changeTab } = useGraphiQLActions();

    function show(query) {
      const open = tabs.findIndex((tab) => tab.query === query);
      if (open >= 0) {
        changeTab(open);
      } else {
        addTab();
        queryEditor.setValue(query);
      }
    }

    return (
      <section aria-label="Examples">
        <h2 className="examples-title">Examples</h2>
        <ul className="examples">
          {examples.map(({ name, about, query }) => (
            <li key={name}>
              <button type="button" onClick={() => show(query)}>
                <strong>{name}</strong>
                <span>{about}</span>
              </button>
            </li>
          ))}
        </ul>
      </section>
    );
  }

  return { title: "Examples", icon: ExamplesIcon, content: Examples };
}

function ExamplesIcon() {
  return (
    <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.5" height="1em" aria-hidden="true">
      <path d="M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01" strokeLinecap="round" />
    </svg>
  );
}
