/** The GraphiQL page and its files, all from installed packages: a browser needs nothing from elsewhere. */
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);

interface Asset {
  readonly package: string;
  /** Below the package's folder: not all of them export it by name. */
  readonly file: string;
  readonly type: string;
}

const ASSETS: Readonly<Record<string, Asset>> = {
  '/graphiql/react.js': { package: 'react', file: 'umd/react.production.min.js', type: 'text/javascript' },
  '/graphiql/react-dom.js': { package: 'react-dom', file: 'umd/react-dom.production.min.js', type: 'text/javascript' },
  '/graphiql/graphiql.js': { package: 'graphiql', file: 'graphiql.min.js', type: 'text/javascript' },
  '/graphiql/graphiql.css': { package: 'graphiql', file: 'graphiql.min.css', type: 'text/css' },
};

const EXAMPLE = `mutation {
  summarize(input: { text: "#Person1#: Shall we meet at five?\\n#Person2#: Six is better, I have a call until then." }) {
    text
  }
}`;

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>GistQL</title>
<link rel="stylesheet" href="/graphiql/graphiql.css">
<style>body { margin: 0 } #graphiql { height: 100vh }</style>
</head>
<body>
<div id="graphiql"></div>
<script src="/graphiql/react.js"></script>
<script src="/graphiql/react-dom.js"></script>
<script src="/graphiql/graphiql.js"></script>
<script>
const socket = location.origin.replace(/^http/, 'ws') + '/graphql';
const fetcher = GraphiQL.createFetcher({ url: '/graphql', subscriptionUrl: socket });
const defaultQuery = ${JSON.stringify(EXAMPLE)};
ReactDOM.createRoot(document.getElementById('graphiql')).render(React.createElement(GraphiQL, { fetcher, defaultQuery }));
</script>
</body>
</html>
`;

export function sendGraphiqlPage(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(PAGE);
}

/** Answers a request for one of the page's files; false when the path is none of them. */
export async function sendGraphiqlAsset(path: string, response: ServerResponse): Promise<boolean> {
  const asset = Object.hasOwn(ASSETS, path) ? ASSETS[path] : undefined;
  if (asset === undefined) return false;
  const content = await readFile(join(dirname(require.resolve(`${asset.package}/package.json`)), asset.file));
  response.writeHead(200, { 'content-type': `${asset.type}; charset=utf-8`, 'x-content-type-options': 'nosniff' });
  response.end(content);
  return true;
}
